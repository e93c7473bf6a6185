"""A house beside a simulated gateway, and as much to do for each of its jobs as one likes.

await work.prepare(works, 200)
tally = await JOBS[work.job](works.house)
await work.is_done_once(works)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec

from kiti.app import open_house
from kiti.bookings.model import Contact
from kiti.core.ids import new_id
from kiti.core.settings import load
from kiti.flows.commit import Reserved
from kiti.flows.house import House
from kiti.flows.passes import each
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.settle import settle_payment
from kiti.flows.upkeep import JOBS, refund_cancelled_trips
from kiti.network import actions as network
from kiti.payments import actions as payments
from tests.box import Box
from tests.network import BUS, STANDARD_UGX, Network
from tests.simulated import SECRET_KEY, SHOP, Simulator, free_port

CONTACT = Contact(name="Amina", email="amina@example.com", phone="+256772123456")
NOBODY = "http://127.0.0.1:9/hook"
SEATS = sum(character == "s" for character in BUS)
EARLIER = "kiti_now() - interval '1 second'"


class Works:
    """`house` and `other` are two on one database, as two processes have them; no worker runs beside the tests."""

    def __init__(self, house: House, other: House, trips: Network, simulator: Simulator) -> None:
        self.house = house
        self.other = other
        self.network = trips
        self.simulator = simulator
        self.box = Box(house.db)
        self.bookings: list[UUID] = []
        self.trips: list[UUID] = []
        self.made = 0

    async def holds(self, number: int) -> list[Reserved]:
        """So many bookings of one seat each, on buses of their own; they are what is being worked at from now on."""
        self.trips = [self.network.bus() for _ in range(-(-number // SEATS))]
        seats = [(trip, seat) for trip in self.trips for seat in self.network.bus_line.seats][:number]
        held: list[Reserved] = []

        async def one(place: tuple[UUID, str]) -> None:
            trip, seat = place
            held.append(
                await reserve(self.house, Reservation(items=(Item(trip=trip, seats=(seat,)),), contact=CONTACT))
            )

        await each(seats, one, at_once=50)
        self.bookings = [one.booking for one in held]
        return held

    async def attempts(self, number: int) -> list[UUID]:
        """So many payments whose money the gateway has, and about which nobody has asked it yet; all are due for it."""
        opened: list[UUID] = []
        held = await self.holds(number)
        async with self.box.db.transaction() as tx:
            for one in held:
                attempt = await payments.open_attempt(
                    tx,
                    booking=one.booking,
                    gateway="flutterwave",
                    method="CARD",
                    amount=STANDARD_UGX,
                    fee=0,
                    currency="UGX",
                    return_url="",
                    expires_at=one.expires_at,
                    poll_seconds=0,
                )
                opened.append((await payments.submit(tx, payment=attempt)).id)
        await each(opened, self._pay)
        return opened

    async def paid(self, number: int) -> list[str]:
        """So many bookings that are paid for; the gateway's numbers of their transactions."""
        await each(await self.attempts(number), lambda payment: _ignore(settle_payment(self.house, payment)))
        rows = await self.box.rows("SELECT transaction_id FROM charge WHERE booking_id = ANY(%s)", self.bookings)
        assert len(rows) == number
        return [row["transaction_id"] for row in rows]

    async def cancel_trips(self) -> None:
        """Their operator has cancelled the trips of these bookings, and was cut short before anything went back."""
        await self.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = ANY(%s)", self.trips)

    async def counts(self, statement: str) -> int:
        """How many rows a question about these bookings gives."""
        return int(await self.box.value(f"SELECT count(*) FROM ({statement}) AS found", self.bookings))

    async def _pay(self, payment: UUID) -> None:
        body = {"tx_ref": str(payment), "amount": STANDARD_UGX, "currency": "UGX", "redirect_url": SHOP}
        customer = {"email": CONTACT.email, "name": CONTACT.name, "phonenumber": CONTACT.phone}
        answer = await self.simulator.post("/v3/payments", **body, customer=customer)
        assert answer["status"] == "success", answer
        await self.simulator.pay(str(payment))


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to do for a job, and the proof that all of it was done, and once."""

    job: str
    prepare: Callable[[Works, int], Awaitable[object]]
    is_done_once: Callable[[Works], Awaitable[None]]
    items: int = 200


@asynccontextmanager
async def open_works(url: str) -> AsyncIterator[Works]:
    simulator = Simulator(port=free_port(), webhook_url=NOBODY, state=None)
    gateway = f"http://127.0.0.1:{simulator.port}"
    settings = load(
        {
            "KITI_DEMO": "1",
            "DATABASE_URL": url,
            "FLUTTERWAVE_BASE_URL": f"{gateway}/v3",
            "FLUTTERWAVE_SECRET_KEY": SECRET_KEY,
        }
    )
    try:
        async with open_house(settings) as house, open_house(settings) as other:
            await simulator.start()
            await simulator.post("/_sim/config", max_retries=0)
            trips = await Network().build(house.db)
            yield Works(_only_flutterwave(house), _only_flutterwave(other), trips, simulator)
    finally:
        if simulator.process is not None:
            simulator.stop()
        await simulator.http.aclose()


def _only_flutterwave(house: House) -> House:
    return msgspec.structs.replace(house, gateways={"flutterwave": house.gateway("flutterwave")})


async def _ignore(work: Awaitable[object]) -> None:
    await work


# ------------------------------------------------------------------ expire-seats


async def let_holds_lapse(works: Works, number: int) -> None:
    await works.holds(number)
    await works.box.rows(f"UPDATE booking SET hold_expires_at = {EARLIER} WHERE id = ANY(%s)", works.bookings)
    await works.box.rows(f"UPDATE seat_claim SET expires_at = {EARLIER} WHERE owner_id = ANY(%s)", works.bookings)


async def each_hold_is_over_once(works: Works) -> None:
    number = len(works.bookings)
    expired = "SELECT 1 FROM audit_event WHERE subject_id = ANY(%s) AND action = 'booking.expired'"
    assert await works.counts(expired) == number
    assert await works.counts("SELECT 1 FROM booking WHERE id = ANY(%s) AND state = 'expired'") == number
    assert await works.counts("SELECT 1 FROM seat_claim WHERE owner_id = ANY(%s)") == 0


# ------------------------------------------------------------------ poll-payments, reconcile-payments


async def lose_webhooks(works: Works, number: int) -> None:
    """Nobody polls for these either: only the gateway's own list tells of them."""
    await works.attempts(number)
    await works.box.rows("UPDATE payment SET poll_after = NULL WHERE booking_id = ANY(%s)", works.bookings)


async def each_is_captured_once(works: Works) -> None:
    number = len(works.bookings)
    assert await works.counts("SELECT 1 FROM booking WHERE id = ANY(%s) AND state = 'confirmed'") == number
    assert await works.counts("SELECT 1 FROM charge WHERE booking_id = ANY(%s)") == number
    captures = "SELECT DISTINCT event FROM transfer WHERE booking_id = ANY(%s) AND event LIKE 'capture:%%'"
    assert await works.counts(captures) == number
    assert await works.counts("SELECT 1 FROM ticket WHERE booking_id = ANY(%s) AND state = 'valid'") == number
    assert await works.counts("SELECT 1 FROM refund WHERE booking_id = ANY(%s)") == 0


# ------------------------------------------------------------------ refund-cancelled-trips, process-refunds


async def owe_for_cancelled_trips(works: Works, number: int) -> None:
    await works.paid(number)
    await works.cancel_trips()


async def each_is_owed_back_once(works: Works) -> None:
    number = len(works.bookings)
    assert await works.counts("SELECT 1 FROM refund WHERE booking_id = ANY(%s)") == number
    assert await works.counts("SELECT 1 FROM trip_refund WHERE booking_id = ANY(%s)") == number
    assert await works.counts("SELECT 1 FROM booking WHERE id = ANY(%s) AND state = 'cancelled'") == number


async def ask_for_refunds(works: Works, number: int) -> None:
    await owe_for_cancelled_trips(works, number)
    await refund_cancelled_trips(works.house)


async def each_is_asked_for_once(works: Works) -> None:
    """Of the gateway: its own books say how often."""
    rows = await works.box.rows("SELECT transaction_id FROM charge WHERE booking_id = ANY(%s)", works.bookings)
    mine = {int(row["transaction_id"]) for row in rows}
    told = (await works.simulator.get("/_sim/state"))["refunds"]
    assert sorted(one["tx_id"] for one in told if one["tx_id"] in mine) == sorted(mine)
    refused = "SELECT 1 FROM refund WHERE booking_id = ANY(%s) AND state NOT IN ('pending', 'succeeded')"
    assert await works.counts(refused) == 0


# ------------------------------------------------------------------ poll-disputes


async def dispute(works: Works, number: int) -> None:
    async def one(transaction: str) -> None:
        await works.simulator.post("/_sim/chargebacks", transaction_id=int(transaction))

    await each(await works.paid(number), one)


async def each_is_disputed_once(works: Works) -> None:
    number = len(works.bookings)
    assert await works.counts("SELECT 1 FROM dispute WHERE booking_id = ANY(%s)") == number
    opened = "SELECT 1 FROM transfer WHERE booking_id = ANY(%s) AND event LIKE 'dispute\\_opened:%%'"
    assert await works.counts(opened) == number
    reserved = "SELECT 1 FROM charge WHERE booking_id = ANY(%s) AND disputed = amount AND refund_reserved = amount"
    assert await works.counts(reserved) == number


# ------------------------------------------------------------------ payouts


async def owe_operators(works: Works, number: int) -> None:
    """Statements that a second person has approved and somebody has asked to be paid."""
    works.bookings = [new_id() for _ in range(number)]
    works.made += number
    await works.box.rows(
        "INSERT INTO settlement SELECT"
        " made.id, %s, 'UGX', 'daily', kiti_now() - (%s - made.n) * interval '1 day',"
        " kiti_now() - (%s - made.n - 1) * interval '1 day', 'Africa/Kampala', 'paying', 1, 1000, 0, 0, 0, 0, 0, 1000,"
        " NULL, kiti_now(), 'staff:a', kiti_now(), 'flutterwave', 'mobile_money', 'UG', 'MTN', '256772000111', 'Pearl'"
        " FROM unnest(%s::uuid[]) WITH ORDINALITY AS made (id, n)",
        *(works.network.bus_line.operator.id, 3650 - works.made, 3650 - works.made, works.bookings),
    )
    await works.box.rows(
        "INSERT INTO payout SELECT gen_random_uuid(), id, operator_id, gateway, kind, country, bank, account,"
        " account_name, net, currency, 'requested', 0, NULL, NULL, NULL, 'staff:b', kiti_now(), kiti_now()"
        " FROM settlement WHERE id = ANY(%s)",
        works.bookings,
    )


async def each_is_paid_out_once(works: Works) -> None:
    rows = await works.box.rows("SELECT id, state FROM payout WHERE settlement_id = ANY(%s)", works.bookings)
    assert {row["state"] for row in rows} <= {"pending", "succeeded"}
    mine = sorted(str(row["id"]) for row in rows)
    told = [one["reference"] for one in (await works.simulator.get("/_sim/state"))["transfers"]]
    assert sorted(reference for reference in told if reference in set(mine)) == mine


# ------------------------------------------------------------------ generate-trips, cleanup-idempotency


async def add_schedules(works: Works, number: int) -> None:
    """So many departures to be made from now on, thirty-one by each schedule."""
    line = works.network.bus_line
    works.bookings = [new_id() for _ in range(-(-number // 31))]
    async with works.box.db.transaction() as tx:
        for place, id_ in enumerate(works.bookings):
            at = time(9 + place % 12, place % 60)
            await network.add_schedule(tx, schedule=msgspec.structs.replace(line.schedule, id=id_, departs_local=at))


async def each_departure_is_there_once(works: Works) -> None:
    rows: list[dict[str, Any]] = await works.box.rows(
        "SELECT trip.id, count(trip_stop.seq) AS stops FROM trip LEFT JOIN trip_stop ON trip.id = trip_stop.trip_id"
        " WHERE schedule_id = ANY(%s) GROUP BY trip.id",
        works.bookings,
    )
    assert len(rows) == 31 * len(works.bookings)
    assert {row["stops"] for row in rows} == {3}
    last = await works.box.value("SELECT max(service_date) FROM trip WHERE schedule_id = ANY(%s)", works.bookings)
    assert last == datetime.now(UTC).date() + timedelta(days=30)


async def leave_old_keys(works: Works, number: int) -> None:
    await works.box.rows(
        "INSERT INTO idempotency_key (key, fingerprint, locked_until, created_at, status, media_type, body)"
        " SELECT sha256(n::text::bytea), sha256(''), then_, then_, 200, 'application/json', '{}'"
        " FROM (SELECT kiti_now() - interval '4 days' AS then_) AS long_ago, generate_series(1, %s) AS made (n)",
        number,
    )


async def every_key_is_forgotten(works: Works) -> None:
    assert await works.box.value("SELECT count(*) FROM idempotency_key") == 0


WORK = [
    Work(job="expire-seats", prepare=let_holds_lapse, is_done_once=each_hold_is_over_once, items=700),
    Work(job="poll-payments", prepare=Works.attempts, is_done_once=each_is_captured_once),
    Work(job="reconcile-payments", prepare=lose_webhooks, is_done_once=each_is_captured_once),
    Work(job="refund-cancelled-trips", prepare=owe_for_cancelled_trips, is_done_once=each_is_owed_back_once),
    Work(job="process-refunds", prepare=ask_for_refunds, is_done_once=each_is_asked_for_once),
    Work(job="poll-disputes", prepare=dispute, is_done_once=each_is_disputed_once),
    Work(job="payouts", prepare=owe_operators, is_done_once=each_is_paid_out_once),
    Work(job="generate-trips", prepare=add_schedules, is_done_once=each_departure_is_there_once),
    Work(job="cleanup-idempotency", prepare=leave_old_keys, is_done_once=every_key_is_forgotten, items=2500),
]


async def twice_at_once(works: Works, job: str) -> tuple[int, int]:
    """The job in both houses at the same time: how much the two say they have done, and could not do."""
    one, two = await asyncio.gather(JOBS[job](works.house), JOBS[job](works.other))
    return one.processed + two.processed, one.failed + two.failed
