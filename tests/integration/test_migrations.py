"""Migrating: from nothing, twice, and from two processes at once; and the schema knows the words of the program."""

import re
import subprocess
import sys
from typing import Any, get_args

import psycopg
import pytest
from tests.box import Box

from kiti.bookings.model import State
from kiti.db.migrate import migrate, newest
from kiti.gateways.gateway import Method
from kiti.network.model import FeatureKind, TripState, VehicleKind
from kiti.payments.model import OPEN, PaymentState, Purpose, RefundState
from kiti.tickets.model import TicketState


def look(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_an_empty_database_becomes_the_newest_one_and_a_second_run_changes_nothing(empty_url: str) -> None:
    objects = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"
    assert look(empty_url, objects) == []
    migrate(empty_url)
    assert look(empty_url, "SELECT version_num FROM alembic_version") == [(newest(),)]
    first = look(empty_url, objects)
    assert first
    migrate(empty_url)
    assert look(empty_url, objects) == first


def test_two_processes_that_migrate_at_once_both_succeed(empty_url: str) -> None:
    program = "import sys; from kiti.db.migrate import migrate; migrate(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", program, empty_url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        _, complaint = process.communicate(timeout=90)
        assert process.returncode == 0, complaint
    assert look(empty_url, "SELECT version_num FROM alembic_version") == [(newest(),)]


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("booking", "state", get_args(State)),
        ("payment", "state", get_args(PaymentState)),
        ("payment", "method", get_args(Method)),
        ("charge", "purpose", get_args(Purpose)),
        ("refund", "state", get_args(RefundState)),
        ("ticket", "state", tuple(TicketState)),
        ("trip", "state", get_args(TripState)),
        ("vehicle", "kind", get_args(VehicleKind)),
        ("layout_feature", "kind", get_args(FeatureKind)),
    ],
)
async def test_the_schema_allows_exactly_the_words_of_the_program(
    box: Box, table: str, column: str, words: tuple[str, ...]
) -> None:
    rows = await box.rows(
        "SELECT pg_get_constraintdef(oid) AS definition FROM pg_constraint"
        " WHERE conrelid = %s::regclass AND contype = 'c' AND conkey = ARRAY["
        "(SELECT attnum FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s)]",
        table,
        table,
        column,
    )
    (definition,) = [row["definition"] for row in rows]
    assert set(re.findall(r"'(\w+)'::text", definition)) == {str(word) for word in words}


async def test_one_open_payment_means_the_same_to_the_schema_and_to_the_program(box: Box) -> None:
    definition = await box.value("SELECT pg_get_indexdef('payment_one_open'::regclass)")
    assert set(re.findall(r"'(\w+)'::text", definition)) == OPEN
