"""Migrating: from nothing, twice, and from two processes at once; and the schema knows the words of the program."""

import re
import subprocess
import sys
from typing import Any, get_args

import psycopg
import pytest
from tests.box import Box

from kiti.bookings.model import State
from kiti.core.money import share_out
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


# ------------------------------------------------------------------ 0020: whose money it was before

PEARL, LAKE = "00000000-0000-7000-8000-00000000000a", "00000000-0000-7000-8000-00000000000b"
CHARGES = [
    # purpose, amount, excess_reserved, refund_reserved, disputed, currency, fares by operator, posted by owner
    ("overpaid", "fulfils", 100_001, 0, 0, 0, {PEARL: 30_000, LAKE: 60_000}, {PEARL: 33_334, LAKE: 66_667}),
    ("excess half back", "fulfils", 100_000, 4_000, 4_000, 0, {PEARL: 90_000}, {PEARL: 100_000}),
    ("short", "unfulfillable", 50_000, 0, 0, 0, {PEARL: 30_000, LAKE: 60_000}, {PEARL: 16_667, LAKE: 33_333}),
    ("late, disputed", "unfulfillable", 90_000, 0, 90_000, 70_000, {PEARL: 90_000}, {PEARL: 88_000, "platform": 2_000}),
    ("exact", "fulfils", 90_000, 0, 0, 0, {PEARL: 90_000}, {PEARL: 90_000}),
    ("earned", "fulfils", 99_000, 0, 0, 0, {PEARL: 90_000}, {PEARL: 99_000}),
]
MOVED = {
    "overpaid": {PEARL: 3_334, LAKE: 6_667},
    "excess half back": {PEARL: 6_000},
    "short": {PEARL: 16_667, LAKE: 33_333},
    "late, disputed": {PEARL: 68_444, "platform": 1_556},
    "earned": {PEARL: 4_000},  # the rest of the excess was recognised: it is the operator's
}


def before_0020(connection: psycopg.Connection[Any]) -> None:
    """Bookings as the program left them that shared out among operators what had bought nothing."""
    connection.execute("SET session_replication_role = replica")  # only what is looked at is there
    for number, (name, purpose, amount, excess, reserved, disputed, fares, posted) in enumerate(CHARGES):
        booking = f"00000000-0000-7000-8000-{number:012}"
        charge = {"booking": booking, "name": name, "amount": amount, "price": 90_000, "purpose": purpose}
        charge |= {"reference": f"ABCDE{number + 2}", "excess": excess, "reserved": reserved, "disputed": disputed}
        connection.execute(
            "INSERT INTO booking (id, reference, state, currency, amount, created_at, hold_until, hold_expires_at,"
            " hold_cap_at, confirmed_at)"
            " VALUES (%(booking)s, %(reference)s, 'confirmed', 'UGX', %(price)s, now(), now(), now(), now(), now())",
            charge,
        )
        connection.execute(
            "INSERT INTO payment (booking_id, id, gateway, method, state, amount, fee, currency, created_at,"
            " expires_at)"
            " VALUES (%(booking)s, %(booking)s, 'f', 'CARD', 'captured', %(price)s, 0, 'UGX', now(), now())",
            charge,
        )
        connection.execute(
            "INSERT INTO charge (booking_id, gateway, transaction_id, payment_id, purpose, amount, currency, fee_exact,"
            " captured_at, refund_reserved, disputed, excess_reserved) VALUES (%(booking)s, 'f', %(name)s, %(booking)s,"
            " %(purpose)s, %(amount)s, 'UGX', 0, now(), %(reserved)s, %(disputed)s, %(excess)s)",
            charge,
        )
        for operator, fare in fares.items():
            connection.execute(
                "INSERT INTO booking_seat (booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class,"
                " fare) VALUES (%s, %s, '1A', 0, 1, 0, %s, 'standard', %s)",
                (booking, operator, operator, fare),
            )
        entries = [
            ("capture:f:" + name, "gateway_clearing:f", f"ticket_liability:{who}", n) for who, n in posted.items()
        ]
        if reserved > disputed:
            back = share_out(reserved - disputed, weights=posted)
            entries += [("refund_asked:r", f"ticket_liability:{who}", "refund_clearing:f", back[who]) for who in back]
        if name == "earned":
            entries.append(("departed:t", f"ticket_liability:{PEARL}", f"operator_payable:{PEARL}", 95_000))
        post(connection, booking, entries)


def post(connection: psycopg.Connection[Any], below: str, entries: list[tuple[str, str, str, int]]) -> None:
    for line, (event, debit, credit, amount) in enumerate(entries, start=1):
        connection.execute(
            "INSERT INTO transfer (booking_id, id, event, line, debit, credit, amount, currency, posted_at)"
            " VALUES (%s, gen_random_uuid(), %s, %s, %s, %s, %s, 'UGX', now())",
            (below, event, line, debit, credit, amount),
        )


def test_money_that_bought_nothing_before_it_had_an_account_is_moved_there_to_the_minor_unit(empty_url: str) -> None:
    migrate(empty_url, to="0019")
    with psycopg.connect(empty_url) as connection:
        before_0020(connection)
    migrate(empty_url)
    moved: dict[str, dict[str, int]] = {}
    for event, debit, credit, amount in look(
        empty_url, "SELECT event, debit, credit, amount FROM transfer WHERE event LIKE 'unspent:%' ORDER BY event, line"
    ):
        assert credit == "ticket_liability:unspent"
        moved.setdefault(event.removeprefix("unspent:f:"), {})[debit.partition(":")[2]] = amount
    assert moved == MOVED


def test_payouts_that_were_made_before_leave_the_account_of_their_gateway(empty_url: str) -> None:
    migrate(empty_url, to="0019")
    below = "00000000-0000-7000-8000-000000000001"
    sent, returned = "00000000-0000-7000-8000-000000000002", "00000000-0000-7000-8000-000000000003"
    with psycopg.connect(empty_url) as connection:
        connection.execute("SET session_replication_role = replica")
        for payout, gateway in ((sent, "flutterwave"), (returned, "stripe")):
            connection.execute(
                "INSERT INTO payout (id, settlement_id, operator_id, gateway, kind, country, bank, account,"
                " account_name, amount, currency, state, requested_by, created_at)"
                " VALUES (%s, %s, %s, %s, 'bank', 'UG', 'b', 'a', 'n', 70000, 'UGX', 'failed', 'x', now())",
                (payout, below, PEARL, gateway),
            )
        post(connection, below, [(f"payout_done:{sent}", "payout_in_transit:flutterwave", "bank:platform", 70_000)])
        done = [
            (f"payout_done:{returned}", "payout_in_transit:stripe", "bank:platform", 70_000),
            (f"payout_done:{returned}", "gateway_fee:stripe", "bank:platform", 500),
        ]
        post(connection, below, done)
        post(connection, below, [(f"payout_returned:{returned}", "bank:platform", "payout_in_transit:stripe", 70_000)])
    migrate(empty_url)
    rows = look(
        empty_url, "SELECT event, debit, credit, amount FROM transfer WHERE event LIKE 'payout_bank:%' ORDER BY event"
    )
    assert rows == [
        (f"payout_bank:{sent}", "bank:platform", "bank:flutterwave", 70_000),
        (f"payout_bank:{returned}", "bank:platform", "bank:stripe", 500),
    ]
