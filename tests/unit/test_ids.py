import re
import time

from kiti.core.ids import REFERENCE_ALPHABET, new_id, new_reference


def test_an_id_is_a_uuid_of_version_7_that_begins_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= after


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


def test_a_reference_has_nothing_in_it_that_is_misread() -> None:
    assert not set("01OIL") & set(REFERENCE_ALPHABET)
    for _ in range(200):
        assert re.fullmatch(r"[A-HJKMNP-Z2-9]{6}", new_reference())
