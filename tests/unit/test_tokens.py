import re

import pytest

from kiti.core.ids import new_id
from kiti.core.tokens import hold_token, is_hold_token

SECRET = "a-secret-of-some-length"


def test_a_token_is_the_right_to_its_own_booking_only() -> None:
    mine, other = new_id(), new_id()
    token = hold_token(mine, secret=SECRET)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert is_hold_token(token, mine, secret=SECRET)
    assert not is_hold_token(token, other, secret=SECRET)


def test_a_token_of_another_secret_is_nothing_here() -> None:
    booking = new_id()
    assert not is_hold_token(hold_token(booking, secret="another secret"), booking, secret=SECRET)


@pytest.mark.parametrize("forged", ["", "x", "A" * 43, "é" * 43, "\u0000"])
def test_what_somebody_made_up_is_no_token(forged: str) -> None:
    assert not is_hold_token(forged, new_id(), secret=SECRET)
