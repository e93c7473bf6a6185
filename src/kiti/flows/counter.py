"""What a clerk at a counter sees of a booking, and takes for it."""

from uuid import UUID

import msgspec

from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.cash import reads as cash_reads
from kiti.cash.model import Receipt
from kiti.core import text
from kiti.core.errors import InvalidInput, NotAllowed
from kiti.core.money import Money
from kiti.db import Reader
from kiti.fees import reads as fee_reads
from kiti.flows import cash
from kiti.flows.cash import GATEWAY, OWED, TAKABLE, Taken
from kiti.flows.checkout import Intent, initiate
from kiti.flows.house import House
from kiti.flows.prices import price_of, quote
from kiti.flows.staff import require
from kiti.payments import reads as payment_reads
from kiti.payments.model import Payment, Refund
from kiti.people import reads as people_reads
from kiti.people.model import Staff


class AtCounter(msgspec.Struct, frozen=True, kw_only=True):
    """A booking at a counter: what is due (None: nothing that may be taken), what was taken, what is owed back."""

    booking: Booking
    lines: list[BookedSeat]
    payment: Payment | None
    due: Money | None
    receipt: Receipt | None
    refunds: list[Refund]


async def look(house: House, *, reference: str, staff: Staff) -> AtCounter:
    """A booking by its reference, as a traveller says it; raises NotAllowed, NotFound, InvalidInput."""
    require(staff, "cash.take")
    said = text.clean(reference, field="reference").upper().replace(" ", "")
    if not said:
        raise InvalidInput("reference", "Type the booking's reference.")
    async with house.db.reader() as reader:
        booking = await booking_reads.by_id(reader, booking=await booking_reads.by_reference(reader, reference=said))
        for operator in await booking_reads.operators_of(reader, booking=booking.id):
            require(staff, "cash.take", operator=operator)
        lines = await booking_reads.seats_of(reader, bookings=[booking.id])
        payment = await payment_reads.newest_of_booking(reader, booking=booking.id)
        receipt = None
        if payment is not None and payment.gateway == GATEWAY:
            receipt = await cash_reads.receipt_of_payment(reader, payment=payment.id)
        refunds = await payment_reads.refunds_of(reader, booking=booking.id)
        price = await _price(reader, booking, lines)
    return AtCounter(
        booking=booking,
        lines=lines,
        payment=payment,
        due=_due(booking, payment, price) if receipt is None else None,
        receipt=receipt,
        refunds=[one for one in refunds if one.gateway == GATEWAY and one.state in OWED],
    )


async def take_for(
    house: House, *, booking: UUID, amount: int, currency: str, counter: str = "", staff: Staff
) -> Taken:
    """Take cash for a booking, opening the attempt unless the traveller has; raises what take and initiate raise."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
        for operator in await booking_reads.operators_of(reader, booking=booking):
            require(staff, "cash.take", operator=operator)
        newest = await payment_reads.newest_of_booking(reader, booking=booking)
        price = await _price(reader, found, await booking_reads.seats_of(reader, bookings=[booking]))
    if newest is None or not _is_for_counter(newest, found):
        if newest is not None and newest.is_open and not newest.is_abandoned:
            raise WrongState(f"The traveller is paying through {newest.gateway}. Wait until that has ended.")
        cash.check_due(price, amount=amount, currency=currency)
        intent = Intent(
            booking=booking, method="CASH", gateway=GATEWAY, total=amount, currency=currency, actor=staff.actor
        )
        newest = (await initiate(house, intent)).payment
    return await cash.take(house, payment=newest.id, amount=amount, currency=currency, counter=counter, staff=staff)


async def clerk(house: House, *, email: str) -> Staff:
    """The account in whose name the command line takes cash; raises NotAllowed."""
    async with house.db.reader() as reader:
        found = await people_reads.accounts(reader, email=email.strip().lower())
    if not found or found[0].disabled_at is not None:
        raise NotAllowed(f"There is no account {email} that may work.")
    return found[0].staff


def _is_for_counter(attempt: Payment, booking: Booking) -> bool:
    """Whether money at the counter is for this attempt; one that is over makes room while the booking holds again."""
    if attempt.gateway != GATEWAY or (attempt.state == "expired" and booking.is_holding):
        return False
    return attempt.state in TAKABLE | {"captured"}


async def _price(reader: Reader, booking: Booking, lines: list[BookedSeat]) -> Money:
    """What a booking costs that nobody has begun to pay: the fares, and what is asked on top of who pays in cash."""
    parts = quote(await fee_reads.rules(reader), booking, lines, method="CASH")
    return price_of(Money(booking.amount, booking.currency), parts).total


def _due(booking: Booking, payment: Payment | None, price: Money) -> Money | None:
    if payment is not None and payment.gateway == GATEWAY and payment.state in TAKABLE:
        is_unpaid = booking.state in {"held", "awaiting_payment", "expired"}
        return payment.total if is_unpaid else None
    is_open_elsewhere = payment is not None and payment.is_open and not payment.is_abandoned
    return price if booking.is_holding and not is_open_elsewhere else None
