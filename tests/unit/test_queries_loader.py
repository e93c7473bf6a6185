import pytest

from kiti.db import load
from kiti.db.queries import _parse

TEXT = """
-- Why it is as it is.
-- first :many
SELECT 1;

-- second :execute
-- a remark inside
UPDATE booking SET state = 'expired'
WHERE id = %(id)s;
"""


def test_statements_are_found_by_name_without_their_semicolons() -> None:
    found = _parse("kiti.x", TEXT)
    assert list(found) == ["first", "second"]
    assert (found["first"].name, found["first"].kind, found["first"].text) == ("kiti.x.first", "many", "SELECT 1")
    assert found["second"].text.endswith("WHERE id = %(id)s")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- first :several\nSELECT 1;", "unknown kind 'several'"),
        ("-- first :many\nSELECT 1;\n-- first :one\nSELECT 2;", "stands twice"),
        ("SELECT 1;", "no named query"),
    ],
)
def test_a_file_that_is_not_in_form_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        _parse("kiti.x", text)


def test_a_query_that_does_not_exist_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match=r"kiti\.seats has no query 'steal'"):
        _ = load("kiti.seats").steal
