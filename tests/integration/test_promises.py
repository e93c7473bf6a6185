"""Each check of tests/promises.py finds the damage that is done on purpose to a sound state."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from tests.conftest import fresh_database
from tests.house import JsonObject, RunningHouse
from tests.promises import CHECKS, broken, evidence, promise_of

from kiti.core.ids import new_id
from kiti.seats import actions as seats


class Sound(msgspec.Struct):
    """A house in which all is well, and the bookings in it that a test may damage."""

    house: RunningHouse
    bought: JsonObject  # two seats, whole way
    held: JsonObject  # one seat, first leg
    paid_twice: JsonObject  # refunded once
    block: UUID
    known: dict[str, list[Any]]

    def names(self) -> dict[str, Any]:
        """What the damages below call them."""
        return {
            "bought": self.bought["bookingId"],
            "held": self.held["bookingId"],
            "paid_twice": self.paid_twice["bookingId"],
            "trip": self.bought["tripId"],
            "seat": self.bought["seatNumbers"][0],
            "block": self.block,
            "nobody": new_id(),
        }


@pytest.fixture(scope="module")
async def sound(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sound]:
    with fresh_database(server_url, template) as url:
        house = RunningHouse(url, tmp_path_factory.mktemp("sound"))
        try:
            await house.start()
            trip = house.network.bus()
            bought, _ = await house.buy(trip, ["1A", "1B"], **{"from": "KLA", "to": "KGL"})
            held = await house.reserve(trip, ["2A"], **{"from": "KLA", "to": "MBR"})
            paid_twice = await house.reserve(trip, ["2A"], **{"from": "MBR", "to": "KGL"})
            await house.sim.pay(await house.initiate(paid_twice), "pay-twice")
            await house.refunds_until(paid_twice, "succeeded")
            async with house.box.db.transaction() as tx:
                block = await seats.block(tx, trip=trip, seats=["4A"], from_seq=0, to_seq=2, reason="wet", actor="test")
            known = evidence(
                [promise_of(booking) for booking in (bought, held, paid_twice)],
                (await house.sim.state())["transactions"],
            )
            yield Sound(house, bought, held, paid_twice, block, known)
        finally:
            await house.stop()


# From a damage to the check that has to find it. One statement each, over what `Sound.names` says.
DAMAGES = {
    "an owner too many": (
        "a seat-leg has one owner",
        "INSERT INTO seat_claim SELECT trip_id, seat, leg, %(held)s, claimed_at, expires_at FROM seat_claim",
    ),
    "a hold on a sold seat": (
        "no two live bookings sit in one seat",
        "UPDATE booking_seat SET seat = %(seat)s WHERE booking_id = %(held)s",
    ),
    "a hold longer by one leg": (
        "no two live bookings sit in one seat",
        "UPDATE booking_seat SET to_seq = 2 WHERE booking_id = %(held)s",
    ),
    "a sold seat-leg without its claim": (
        "a confirmed booking has every claim for ever",
        "DELETE FROM seat_claim WHERE owner_id = %(bought)s AND seat = %(seat)s AND leg = 1",
    ),
    "a sold seat that will lapse": (
        "a confirmed booking has every claim for ever",
        "UPDATE seat_claim SET expires_at = kiti_now() + interval '1 hour' WHERE owner_id = %(bought)s AND leg = 0",
    ),
    "a sold seat with another owner": (
        "a confirmed booking has every claim for ever",
        "UPDATE seat_claim SET owner_id = %(paid_twice)s WHERE owner_id = %(bought)s AND seat = %(seat)s",
    ),
    "a hold without its claim": (
        "a hold has every claim exactly as long as it lasts",
        "DELETE FROM seat_claim WHERE owner_id = %(held)s",
    ),
    "a hold that ends before it should": (
        "a hold has every claim exactly as long as it lasts",
        "UPDATE seat_claim SET expires_at = expires_at - interval '1 second' WHERE owner_id = %(held)s",
    ),
    "a claim of nobody": (
        "a claim's owner is a booking with that seat or a block in force",
        "INSERT INTO seat_claim VALUES (%(trip)s, '9A', 0, %(nobody)s, kiti_now(), kiti_now() + interval '1 hour')",
    ),
    "an expired claim of nobody": (
        "a claim's owner is a booking with that seat or a block in force",
        "INSERT INTO seat_claim VALUES (%(trip)s, '9A', 0, %(nobody)s, kiti_now(), kiti_now() - interval '1 hour')",
    ),
    "a claim beyond the segment": (
        "a claim's owner is a booking with that seat or a block in force",
        "UPDATE seat_claim SET seat = '9A', leg = 1 WHERE owner_id = %(held)s",
    ),
    "a block that was lifted and stayed": (
        "a claim's owner is a booking with that seat or a block in force",
        "UPDATE seat_block SET lifted_at = kiti_now() WHERE id = %(block)s",
    ),
    "a seat sold to a booking that is not confirmed": (
        "what is claimed for ever is confirmed",
        "UPDATE booking SET state = 'awaiting_payment' WHERE id = %(bought)s",
    ),
    "a seat sold to nobody": (
        "what is claimed for ever is confirmed",
        "UPDATE seat_claim SET owner_id = %(nobody)s WHERE owner_id = %(bought)s",
    ),
    "a seat that was given up and kept": (
        "what is claimed for a while is held",
        "UPDATE booking SET state = 'cancelled' WHERE id = %(held)s",
    ),
    "a booking that nobody finds by its reference": (
        "what a client heard is in the database",
        "DELETE FROM booking_reference WHERE booking_id = %(held)s",
    ),
    "a booking with another reference": (
        "what a client heard is in the database",
        "UPDATE booking SET reference = 'ZZZZZZ' WHERE id = %(held)s",
    ),
    "a booking that lost a seat": (
        "with these seats and no others",
        "DELETE FROM booking_seat WHERE booking_id = %(bought)s AND seat = %(seat)s",
    ),
    "a booking that goes less far": (
        "with these seats and no others",
        "UPDATE booking_seat SET to_seq = 1 WHERE booking_id = %(bought)s AND seat = %(seat)s",
    ),
    "a hold that nobody gave up": (
        "nobody loses what they have not given up",
        "UPDATE booking SET state = 'expired' WHERE id = %(held)s",
    ),
    "a hold that lapsed long before its end": (
        "nobody loses what they have not given up",
        "UPDATE booking SET hold_expires_at = kiti_now() WHERE id = %(held)s",
    ),
    "a fee that no part explains": (
        "the fee of an attempt is what its parts come to",
        "UPDATE payment SET fee = 100 WHERE booking_id = %(bought)s",
    ),
    "a fee that the platform was not given": (
        "of a price that was paid the platform was given its fees and no more",
        """INSERT INTO booking_fee SELECT booking_id, id, %(nobody)s, 'platform_fee', 'traveller', 100, 0
        FROM payment WHERE booking_id = %(bought)s""",
    ),
    "money that nobody wrote down": (
        "money that the gateway has is written down",
        "DELETE FROM charge WHERE booking_id = %(bought)s",
    ),
    "a seat without a ticket": (
        "money has bought every seat of the booking a ticket",
        "DELETE FROM ticket WHERE booking_id = %(bought)s AND seat = %(seat)s",
    ),
    "a ticket that was voided": (
        "money has bought every seat of the booking a ticket",
        "UPDATE ticket SET state = 'void' WHERE booking_id = %(bought)s AND seat = %(seat)s",
    ),
    "money for a booking that is held again": (
        "money has bought every seat of the booking a ticket",
        "UPDATE booking SET state = 'held' WHERE id = %(bought)s",
    ),
    "a refund that failed": (
        "other money goes back to the last coin",
        "UPDATE refund SET state = 'failed' WHERE booking_id = %(paid_twice)s",
    ),
    "a refund that lacks a coin": (
        "other money goes back to the last coin",
        "UPDATE refund SET amount = amount - 1 WHERE booking_id = %(paid_twice)s",
    ),
    "a ticket for a hold": (
        "nobody travels or is confirmed for nothing",
        "UPDATE ticket SET booking_id = %(held)s WHERE booking_id = %(bought)s AND seat = %(seat)s",
    ),
    "a confirmed booking that nobody paid": (
        "nobody travels or is confirmed for nothing",
        "UPDATE booking SET state = 'confirmed', confirmed_at = kiti_now() WHERE id = %(held)s",
    ),
}


async def test_the_checks_find_nothing_where_all_is_well(sound: Sound) -> None:
    async with sound.house.box.db.pool.connection() as connection:
        assert await broken(connection, sound.known) == {}


def test_every_check_is_tried_out() -> None:
    assert {check for check, _ in DAMAGES.values()} == set(CHECKS)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_check_finds_what_was_damaged_on_purpose(sound: Sound, damage: str) -> None:
    """In a transaction that is undone afterwards."""
    check, statement = DAMAGES[damage]
    async with (
        sound.house.box.db.pool.connection() as connection,
        connection.transaction(force_rollback=True),
    ):
        # Only without its keys can the first damage be done at all.
        await connection.execute("ALTER TABLE seat_claim DROP CONSTRAINT seat_claim_pkey")
        done = await connection.execute(statement, sound.names())
        assert done.rowcount >= 1
        assert check in await broken(connection, sound.known)
