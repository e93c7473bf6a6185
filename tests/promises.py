"""What was promised to clients, and whether the database keeps it: checks in SQL, each giving the rows that break it.

tests/integration/test_promises.py damages a sound state on purpose, so that each of them is known to find something.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import psycopg
from psycopg.rows import dict_row

from tests.house import JsonObject

STOPS = {"KLA": 0, "MBR": 1, "KGL": 2}

Line = tuple[str, str, int, int]


class Promise(msgspec.Struct):
    """A 201 as a client heard it; `lines` are trip, seat, from stop, to stop."""

    id: str
    reference: str
    lines: frozenset[Line]
    was_given_up: bool = False


def promise_of(answer: JsonObject) -> Promise:
    """A reservation on a bus of tests/network.py, as the API answered it."""
    return Promise(
        id=answer["bookingId"],
        reference=answer["reference"],
        lines=frozenset(
            (item["tripId"], seat, STOPS[item["from"]], STOPS[item["to"]])
            for item in answer["items"]
            for seat in item["seatNumbers"]
        ),
    )


LIVE = """
    SELECT booking.id, line.trip_id, line.seat, line.from_seq, line.to_seq, booking.state, booking.hold_expires_at
    FROM booking INNER JOIN booking_seat AS line ON line.booking_id = booking.id
    WHERE state IN ('confirmed', 'completed')
    OR (state IN ('held', 'awaiting_payment') AND hold_expires_at > kiti_now())
"""
IN_FORCE = """
    SELECT claim.trip_id, claim.seat, claim.leg, claim.owner_id, claim.expires_at, booking.state
    FROM seat_claim AS claim LEFT JOIN booking ON booking.id = claim.owner_id
    WHERE claim.expires_at > kiti_now()
    AND NOT EXISTS (
        SELECT FROM seat_block
        WHERE seat_block.trip_id = claim.trip_id AND seat_block.id = claim.owner_id AND lifted_at IS NULL
    )
"""
PROMISED = """
    unnest(%(promised)s::uuid[], %(references)s::text[], %(given_up)s::boolean[]) AS promise (id, reference, given_up)
"""
PROMISED_LINES = """
    unnest(
        %(line_bookings)s::uuid[], %(line_trips)s::uuid[], %(line_seats)s::text[], %(line_starts)s::int[],
        %(line_ends)s::int[]
    ) AS told (booking_id, trip_id, seat, from_seq, to_seq)
"""

# Each gives the rows that break it.
CHECKS = {
    "a seat-leg has one owner": """
        SELECT trip_id, seat, leg FROM seat_claim GROUP BY trip_id, seat, leg HAVING count(*) > 1
    """,
    # The primary key of the claims cannot tell this.
    "no two live bookings sit in one seat": f"""
        SELECT one.id, other.id AS other_id, one.trip_id, one.seat
        FROM ({LIVE}) AS one INNER JOIN ({LIVE}) AS other ON other.trip_id = one.trip_id AND other.seat = one.seat
        WHERE one.id < other.id AND one.from_seq < other.to_seq AND other.from_seq < one.to_seq
    """,
    "a confirmed booking has every claim for ever": f"""
        SELECT live.id, live.trip_id, live.seat, way.leg
        FROM ({LIVE}) AS live CROSS JOIN generate_series(live.from_seq, live.to_seq - 1) AS way (leg)
        WHERE live.state IN ('confirmed', 'completed') AND NOT EXISTS (
            SELECT FROM seat_claim
            WHERE seat_claim.trip_id = live.trip_id AND seat_claim.seat = live.seat AND seat_claim.leg = way.leg
            AND owner_id = live.id AND expires_at = 'infinity'
        ) AND NOT EXISTS (
            SELECT FROM trip_refund WHERE trip_refund.booking_id = live.id AND trip_refund.trip_id = live.trip_id
        )
    """,
    "a hold has every claim exactly as long as it lasts": f"""
        SELECT live.id, live.trip_id, live.seat, way.leg
        FROM ({LIVE}) AS live CROSS JOIN generate_series(live.from_seq, live.to_seq - 1) AS way (leg)
        WHERE live.state IN ('held', 'awaiting_payment') AND NOT EXISTS (
            SELECT FROM seat_claim
            WHERE seat_claim.trip_id = live.trip_id AND seat_claim.seat = live.seat AND seat_claim.leg = way.leg
            AND owner_id = live.id AND expires_at = live.hold_expires_at
        )
    """,
    # Expired claims too: nobody but a loser of a batch could have left them, and losers keep nothing.
    "a claim's owner is a booking with that seat or a block in force": """
        SELECT claim.trip_id, claim.seat, claim.leg, claim.owner_id
        FROM seat_claim AS claim
        WHERE NOT EXISTS (
            SELECT FROM booking_seat AS line
            WHERE line.booking_id = claim.owner_id AND line.trip_id = claim.trip_id AND line.seat = claim.seat
            AND line.from_seq <= claim.leg AND claim.leg < line.to_seq
        ) AND NOT EXISTS (
            SELECT FROM seat_block
            WHERE seat_block.trip_id = claim.trip_id AND seat_block.id = claim.owner_id AND lifted_at IS NULL
        )
    """,
    "what is claimed for ever is confirmed": f"""
        SELECT trip_id, seat, leg, owner_id FROM ({IN_FORCE}) AS claim
        WHERE expires_at = 'infinity' AND coalesce(state NOT IN ('confirmed', 'completed'), true)
    """,
    "what is claimed for a while is held": f"""
        SELECT trip_id, seat, leg, owner_id FROM ({IN_FORCE}) AS claim
        WHERE expires_at < 'infinity' AND coalesce(state NOT IN ('held', 'awaiting_payment'), true)
    """,
    "what a client heard is in the database": f"""
        SELECT promise.id FROM {PROMISED}
        LEFT JOIN booking ON booking.id = promise.id AND booking.reference = promise.reference
        LEFT JOIN booking_reference AS name ON name.reference = promise.reference AND name.booking_id = promise.id
        WHERE booking.id IS NULL OR name.booking_id IS NULL
    """,
    "with these seats and no others": f"""
        SELECT coalesce(told.booking_id, line.booking_id) AS id, coalesce(told.seat, line.seat) AS seat
        FROM {PROMISED_LINES}
        FULL JOIN (SELECT * FROM booking_seat WHERE booking_id = ANY(%(promised)s::uuid[])) AS line
            USING (booking_id, trip_id, seat, from_seq, to_seq)
        WHERE told.booking_id IS NULL OR line.booking_id IS NULL
    """,
    "nobody loses what they have not given up": f"""
        SELECT promise.id, booking.state FROM {PROMISED} INNER JOIN booking ON booking.id = promise.id
        WHERE NOT promise.given_up AND (
            state NOT IN ('held', 'awaiting_payment', 'confirmed')
            OR (state IN ('held', 'awaiting_payment') AND hold_expires_at <= kiti_now())
        )
    """,
    "money that the gateway has is written down": """
        SELECT told.payment_id, told.transaction_id
        FROM unnest(%(paid)s::uuid[], %(transactions)s::text[]) AS told (payment_id, transaction_id)
        WHERE NOT EXISTS (
            SELECT FROM charge
            WHERE charge.payment_id = told.payment_id AND charge.transaction_id = told.transaction_id
        )
    """,
    "money has bought every seat of the booking a ticket": """
        SELECT charge.booking_id, line.trip_id, line.seat, booking.state
        FROM charge
        INNER JOIN booking ON booking.id = charge.booking_id
        INNER JOIN booking_seat AS line ON line.booking_id = charge.booking_id
        WHERE charge.purpose = 'fulfils' AND (
            booking.state NOT IN ('confirmed', 'completed')
            OR (
                SELECT count(*) FROM ticket
                WHERE ticket.booking_id = line.booking_id AND ticket.trip_id = line.trip_id AND ticket.seat = line.seat
                AND ticket.state = 'valid'
            ) <> 1
        )
    """,
    "other money goes back to the last coin": """
        SELECT charge.booking_id, charge.transaction_id, charge.amount FROM charge
        WHERE charge.purpose <> 'fulfils' AND charge.amount <> (
            SELECT coalesce(sum(refund.amount), 0) FROM refund
            WHERE refund.booking_id = charge.booking_id AND refund.transaction_id = charge.transaction_id
            AND refund.state IN ('requested', 'submitting', 'unknown', 'pending', 'succeeded')
        )
    """,
    "the fee of an attempt is what its parts come to": """
        SELECT payment.booking_id, payment.id, payment.fee FROM payment
        WHERE payment.fee <> (
            SELECT coalesce(sum(part.amount), 0) FROM booking_fee AS part
            WHERE part.booking_id = payment.booking_id AND part.payment_id = payment.id AND part.borne_by = 'traveller'
        )
    """,
    "of a price that was paid the platform was given its fees and no more": """
        SELECT charge.booking_id, charge.transaction_id FROM charge
        WHERE charge.purpose = 'fulfils' AND (
            SELECT coalesce(sum(transfer.amount), 0) FROM transfer
            WHERE transfer.booking_id = charge.booking_id AND transfer.credit = 'ticket_liability:platform'
            AND transfer.event = 'capture:' || charge.gateway || ':' || charge.transaction_id
        ) <> (
            SELECT coalesce(sum(part.amount), 0) FROM booking_fee AS part
            WHERE part.booking_id = charge.booking_id AND part.payment_id = charge.payment_id
            AND part.borne_by = 'traveller' AND part.kind <> 'tax'
        )
    """,
    "nobody travels or is confirmed for nothing": """
        SELECT booking.id FROM booking
        WHERE (
            state IN ('confirmed', 'completed')
            OR EXISTS (SELECT FROM ticket WHERE ticket.booking_id = booking.id AND ticket.state <> 'void')
        ) AND NOT EXISTS (SELECT FROM charge WHERE charge.booking_id = booking.id AND charge.purpose = 'fulfils')
    """,
}


def evidence(promises: Iterable[Promise], transactions: Iterable[JsonObject]) -> dict[str, list[Any]]:
    """What clients heard and what the gateway has, as parameters of the checks."""
    promised = list(promises)
    lines = [(promise.id, *line) for promise in promised for line in sorted(promise.lines)]
    taken = [transaction for transaction in transactions if transaction["status"] == "successful"]
    return {
        "promised": [promise.id for promise in promised],
        "references": [promise.reference for promise in promised],
        "given_up": [promise.was_given_up for promise in promised],
        "line_bookings": [line[0] for line in lines],
        "line_trips": [line[1] for line in lines],
        "line_seats": [line[2] for line in lines],
        "line_starts": [line[3] for line in lines],
        "line_ends": [line[4] for line in lines],
        "paid": [transaction["tx_ref"] for transaction in taken],
        "transactions": [str(transaction["id"]) for transaction in taken],
    }


async def broken(connection: psycopg.AsyncConnection[Any], known: dict[str, list[Any]]) -> dict[str, list[JsonObject]]:
    """The checks that do not hold, each with the rows that break it."""
    found = {}
    async with connection.cursor(row_factory=dict_row) as cursor:
        for name, statement in CHECKS.items():
            await cursor.execute(statement, known)
            if rows := await cursor.fetchall():
                found[name] = rows
    return found
