"""Arrays encoded a column at a time read back as what they were: by the driver's own loaders, for any value."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from kiti.db.arrays import TYPES, encode, encode_one, oid_of

instants = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "jsonb": st.dictionaries(st.text(st.characters(codec="ascii")), st.integers() | st.booleans()),
    "date": st.dates(date(1900, 1, 1), date(2200, 1, 1)),
    "timestamptz": instants,
}


def test_every_type_is_tried_here() -> None:
    assert VALUES.keys() == TYPES.keys()


@pytest.mark.parametrize("element", VALUES)
@given(data=st.data())
def test_an_array_reads_back_as_what_it_was(element: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | VALUES[element], max_size=40))
    sent = [msgspec.json.encode(value) if element == "jsonb" and value is not None else value for value in values]
    loader = Transformer().get_loader(oid_of(f"{element}[]"), Format.BINARY)
    assert loader.load(encode(sent, element=element).data) == values


@pytest.mark.parametrize("element", VALUES)
@given(data=st.data())
def test_a_single_value_reads_back_as_what_it_was(element: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[element])
    encoded = encode_one(msgspec.json.encode(value) if element == "jsonb" else value, element=element)
    assert encoded is not None
    assert Transformer().get_loader(oid_of(element), Format.BINARY).load(encoded) == value
    assert encode_one(None, element=element) is None


def test_a_type_that_is_not_known_is_refused() -> None:
    with pytest.raises(KeyError):
        encode([1], element="money")
