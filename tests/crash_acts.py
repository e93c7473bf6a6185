"""What Kiti is asked to do in the stories of tests/integration/test_crash_points.py, each by whoever asks for it.

An act may be asked for again, as somebody does who has heard no answer; by then it may have been done.
"""

from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

import msgspec

from kiti.bookings import reads as booking_reads
from kiti.flows import cash
from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.cancellation import Part, cancel_booking
from kiti.flows.checkout import GatewayUnclear, Intent, initiate
from kiti.flows.house import House
from kiti.flows.partial_cancellation import cancel_part
from kiti.flows.payouts import process_payout, request_payout
from kiti.flows.refunds import process_refund
from kiti.flows.settle import settle_payment
from kiti.flows.staff_refunds import refund_payment
from kiti.flows.webhooks import receive_webhook
from kiti.gateways.gateway import Method
from kiti.payments import reads as payment_reads
from kiti.people.model import Staff
from kiti.settlements import reads as settlement_reads

NOBODY = Staff(id=UUID(int=9), email="p9@kiti.example", name="Person 9", role="platform_admin", operator=None)
REASON = "The story wants it."


class Heard(msgspec.Struct, frozen=True):
    """A webhook that is on its way."""

    gateway: str
    headers: dict[str, str]
    body: bytes


class Case(msgspec.Struct, kw_only=True):
    """One telling of a story: who wants what, and how far it has come. A process that dies takes its copy with it.

    `bookings` are all that the story is about, `booking` the one that is paid for.
    """

    gateway: str
    method: Method = "CARD"
    channel: Literal["hosted", "direct"] = "hosted"
    phone: str = ""
    trip: UUID | None = None
    bookings: list[UUID] = []
    payment: UUID | None = None
    amount: int = 0
    currency: str = "UGX"
    heard: list[Heard] = []
    settlement: UUID | None = None
    payout: UUID | None = None
    staff: Staff = NOBODY

    @property
    def booking(self) -> UUID:
        return self.bookings[0]


Act = Callable[[House, Case], Awaitable[None]]


def silence_timetable(house: House) -> None:
    """The clock of the tests says when the rounds of the timetable come, not the worker's."""
    house.queue.app.periodic_registry.periodic_tasks.clear()


async def ask_to_pay(house: House, case: Case) -> None:
    """The traveller presses the button; without an answer they press it again some time later."""
    intent = Intent(
        booking=case.booking, method=case.method, channel=case.channel, phone=case.phone, gateway=case.gateway
    )
    try:
        case.payment = (await initiate(house, intent)).payment.id
    except GatewayUnclear:
        # Their phone asks them all the same, for the attempt of the first time.
        async with house.db.reader() as reader:
            standing = await payment_reads.newest_of_booking(reader, booking=case.booking)
        if standing is None or not standing.is_open:
            raise
        case.payment = standing.id


async def take_webhooks(house: House, case: Case) -> None:
    """A gateway that was not answered posts the same bytes again."""
    for told in case.heard:
        await receive_webhook(house, gateway=told.gateway, headers=told.headers, body=told.body)


async def work(house: House, case: Case) -> None:
    """The queue's worker, until nothing waits."""
    await house.queue.app.run_worker_async(
        concurrency=1,
        wait=False,
        listen_notify=False,
        install_signal_handlers=False,
        delete_jobs="successful",
    )


async def poll(house: House, case: Case) -> None:
    """The poller comes round to this payment."""
    assert case.payment is not None
    await settle_payment(house, case.payment)


async def take_cash(house: House, case: Case) -> None:
    """The clerk has the money on the counter, and presses until there is a receipt."""
    assert case.payment is not None
    await cash.take(
        house, payment=case.payment, amount=case.amount, currency=case.currency, counter="Kampala 1", staff=case.staff
    )


async def cancel(house: House, case: Case) -> None:
    """The traveller cancels, unless the page says that it is done."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=case.booking)
    if found.state != "cancelled":
        await cancel_booking(house, booking=case.booking, actor="guest")


async def cancel_one_seat(house: House, case: Case) -> None:
    """The first of two travellers stays at home, unless the page shows one seat only."""
    assert case.trip is not None
    async with house.db.reader() as reader:
        lines = await booking_reads.seats_of(reader, bookings=[case.booking])
    if len(lines) > 1:
        part = Part(seats=frozenset({(case.trip, min(line.seat for line in lines))}))
        await cancel_part(house, booking=case.booking, part=part, actor="guest")


async def refund_by_staff(house: House, case: Case) -> None:
    """Somebody at the office gives a part back; their browser sends the same key again."""
    assert case.payment is not None
    await refund_payment(house, payment=case.payment, amount=25_000, reason=REASON, staff=case.staff, key="once")


async def cancel_whole_trip(house: House, case: Case) -> None:
    """The operator cancels the trip of everybody."""
    assert case.trip is not None
    await cancel_trip(house, trip=case.trip, reason=REASON, actor="test")


async def follow_refunds(house: House, case: Case) -> None:
    """The timetable comes round to these refunds."""
    for booking in case.bookings:
        async with house.db.reader() as reader:
            refunds = await payment_reads.refunds_of(reader, booking=booking)
        for refund in refunds:
            await process_refund(house, refund.id)


async def have_paid_out(house: House, case: Case) -> None:
    """Finance has the statement paid, unless the office shows that it is on its way."""
    assert case.settlement is not None
    async with house.db.reader() as reader:
        payouts = await settlement_reads.payouts_of(reader, settlement=case.settlement)
    case.payout = (
        payouts[-1].id if payouts else await request_payout(house, settlement=case.settlement, staff=case.staff)
    )


async def follow_payout(house: House, case: Case) -> None:
    """The timetable comes round to this payout."""
    assert case.payout is not None
    await process_payout(house, case.payout)


ACTS: dict[str, Act] = {
    act.__name__: act
    for act in (
        ask_to_pay,
        take_webhooks,
        work,
        poll,
        take_cash,
        cancel,
        cancel_one_seat,
        refund_by_staff,
        cancel_whole_trip,
        follow_refunds,
        have_paid_out,
        follow_payout,
    )
}
