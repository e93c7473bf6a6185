"""A place in line: what is sealed in its token, how many are ahead, when its page looks again."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiti.core.ids import new_id
from kiti.core.tokens import seal, unseal
from kiti.waiting.model import Place, Room, Run, read_place
from kiti.web.waiting.routes import look_again_seconds

SECRET = "a-secret-of-some-length"
NOW = datetime(2026, 12, 1, 9, 0, tzinfo=UTC)


def place(number: int = 7) -> Place:
    return Place(
        room=new_id(), number=number, admits_at=NOW + timedelta(microseconds=1), expires_at=NOW + timedelta(minutes=10)
    )


def room(*, rate: float, number: int = 1, next_admission: datetime = NOW) -> Room:
    return Room(
        id=new_id(),
        name="",
        rate_per_second=rate,
        burst=1,
        window_seconds=600,
        next_number=number,
        next_admission=next_admission,
        opens_at=NOW,
        trips=[],
    )


def test_a_token_brings_its_place_back_to_the_microsecond() -> None:
    mine = place(2**40)
    token = mine.token(secret=SECRET)
    assert len(token) == 96
    assert token.replace("-", "").replace("_", "").isalnum()
    assert read_place(token, secret=SECRET) == mine


def test_a_token_of_another_secret_or_for_another_purpose_is_nothing_here() -> None:
    token = place().token(secret=SECRET)
    assert read_place(token, secret="another secret") is None
    message = unseal(token, label="place", secret=SECRET)
    assert message is not None
    assert read_place(seal(message, label="hold token", secret=SECRET), secret=SECRET) is None


@pytest.mark.parametrize("forged", ["", "x", "A" * 96, "é" * 96, "\u0000", "=" * 96, "\ud800", " " * 96])
def test_what_somebody_made_up_is_no_place(forged: str) -> None:
    assert read_place(forged, secret=SECRET) is None


@given(st.integers(0, 71), st.integers(1, 255))
def test_a_token_with_any_byte_altered_is_none_of_ours(at: int, by: int) -> None:
    sealed = bytearray(base64.urlsafe_b64decode(place().token(secret=SECRET)))
    sealed[at] ^= by
    assert read_place(base64.urlsafe_b64encode(sealed).decode(), secret=SECRET) is None


def test_a_token_has_one_spelling() -> None:
    token = place().token(secret=SECRET)
    for other in (token + "=", token + "\n", " " + token, token + "A", token[:-1], token.swapcase()):
        assert read_place(other, secret=SECRET) is None
    short = seal(b"x", label="place", secret=SECRET)  # 33 bytes: no spare bits; two characters of 34 have some
    assert unseal(short, label="place", secret=SECRET) == b"x"
    loose = seal(b"xy", label="place", secret=SECRET)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = {loose[:-1] + letter for letter in last} - {loose}
    assert all(unseal(other, label="place", secret=SECRET) is None for other in others)


@given(st.floats(0.01, 10_000), st.integers(0, 500), st.integers(0, 500), st.integers(1, 10**9))
def test_so_many_are_ahead_as_have_lower_numbers_and_are_not_admitted(
    rate: float, one: int, another: int, late: int
) -> None:
    first_admission = NOW + timedelta(microseconds=late)
    run = Run(
        id=new_id(), first_number=1, first_admission=first_admission, rate_per_second=rate, window_seconds=600, now=NOW
    )
    admitted, mine = run.place(min(one, another)), run.place(max(one, another))
    line = room(rate=rate)
    # A little beside the times themselves, which are rounded.
    before, after = first_admission - timedelta(microseconds=20), admitted.admits_at + timedelta(microseconds=20)
    assert line.ahead(number=mine.number, admits_at=mine.admits_at, now=before) == mine.number - 1
    assert line.ahead(number=mine.number, admits_at=mine.admits_at, now=after) == max(
        0, mine.number - admitted.number - 1
    )


def test_before_a_sale_opens_everybody_who_was_earlier_is_ahead() -> None:
    opens = NOW + timedelta(hours=1)
    line = room(rate=2.0, number=11, next_admission=opens + timedelta(seconds=5))
    assert line.waiting(NOW) == 10
    assert line.ahead(number=4, admits_at=opens + timedelta(seconds=1.5), now=NOW) == 3
    assert line.ahead(number=4, admits_at=opens + timedelta(seconds=1.5), now=opens) == 2
    assert line.ahead(number=4, admits_at=opens + timedelta(seconds=1.5), now=opens + timedelta(seconds=1)) == 0


@given(st.floats(0, 10**6), st.floats(0, 1))
def test_a_page_looks_again_when_it_is_its_turn_and_not_more_often_than_it_must(wait: float, chance: float) -> None:
    pause = look_again_seconds(wait, chance=chance)
    assert pause <= 72
    if wait <= 8:
        assert wait <= pause <= wait + 2
    else:
        assert 3 <= pause < wait
