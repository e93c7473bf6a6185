"""Reading payments."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from kiti.core.errors import NotFound
from kiti.db import Reader, load
from kiti.payments.model import Charge, OpenBreak, Option, Payment, PaymentState, Refund, Standing

sql = load("kiti.payments")


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it came in."""

    digest: bytes
    gateway: str
    body: bytes
    processed_at: datetime | None
    outcome: str | None


class Stranded(msgspec.Struct, frozen=True, kw_only=True):
    """Money taken that led to nothing; there should be none."""

    booking_id: UUID
    transaction_id: str


class OptionLine(Option, frozen=True, kw_only=True):
    """An option with the code of its operator, empty for all of them."""

    operator_code: str


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a person."""

    payments_in_review: int
    refunds_needing_attention: int


class _Id(msgspec.Struct, frozen=True):
    id: UUID


async def by_id(reader: Reader, *, payment: UUID) -> Payment:
    """The payment; raises NotFound."""
    found = await reader.maybe(sql.by_id, Payment, id=payment)
    if found is None:
        raise NotFound("There is no such payment.")
    return found


async def newest_of_booking(reader: Reader, *, booking: UUID) -> Payment | None:
    """The open attempt of a booking, else its newest one."""
    return await reader.maybe(sql.newest_of_booking, Payment, booking=booking)


async def of_bookings(
    reader: Reader, *, bookings: Sequence[UUID]
) -> Callable[[], Awaitable[dict[UUID, list[Payment]]]]:
    """Ask for all attempts of bookings; by booking, the oldest first, when called for."""
    rows = await reader.ask(sql.of_bookings, Payment, bookings=list(bookings))

    async def found() -> dict[UUID, list[Payment]]:
        attempts: dict[UUID, list[Payment]] = {booking: [] for booking in bookings}
        for payment in await rows():
            attempts[payment.booking_id].append(payment)
        return attempts

    return found


async def charged(reader: Reader, *, bookings: Sequence[UUID]) -> Callable[[], Awaitable[set[UUID]]]:
    """Ask for which of these bookings money was ever taken; their ids, when called for."""
    rows = await reader.ask(sql.charged, _Id, bookings=list(bookings))

    async def found() -> set[UUID]:
        return {row.id for row in await rows()}

    return found


async def charge(reader: Reader, *, booking: UUID, gateway: str, transaction_id: str) -> Charge | None:
    """The charge for a gateway's transaction, if we know of it."""
    return await reader.maybe(sql.charge_of, Charge, booking=booking, gateway=gateway, transaction_id=transaction_id)


async def charges_of(reader: Reader, *, booking: UUID) -> list[Charge]:
    """Everything that was ever taken for a booking."""
    return await reader.many(sql.charges_of_booking, Charge, booking=booking)


async def due_for_poll(reader: Reader, *, limit: int) -> list[UUID]:
    """Payments whose gateway should be asked now, the longest waiting first."""
    return [row.id for row in await reader.many(sql.due_for_poll, _Id, limit=limit)]


async def options_of_booking(reader: Reader, *, booking: UUID) -> list[Option]:
    """What is said about paying for a booking, the lowest priority first; none: nothing is said."""
    return await reader.many(sql.options_of_booking, Option, booking=booking)


async def options(reader: Reader) -> list[OptionLine]:
    """All that is said about what may be paid with what."""
    return await reader.many(sql.options, OptionLine)


async def refund(reader: Reader, *, refund: UUID) -> Refund:
    """The refund; raises NotFound."""
    found = await reader.maybe(sql.refund_by_id, Refund, id=refund)
    if found is None:
        raise NotFound("There is no such refund.")
    return found


async def refunds_of(reader: Reader, *, booking: UUID) -> list[Refund]:
    """The refunds of a booking, oldest first."""
    return await reader.many(sql.refunds_of_booking, Refund, booking=booking)


async def refunds_of_transaction(reader: Reader, *, transaction_id: str) -> list[Refund]:
    """Up to 50 refunds of a gateway's transaction."""
    return await reader.many(sql.refunds_of_transaction, Refund, transaction_id=transaction_id)


async def due_refunds(reader: Reader, *, limit: int) -> list[UUID]:
    """Refunds that something should be done about now."""
    return [row.id for row in await reader.many(sql.due_refunds, _Id, limit=limit)]


async def standing(reader: Reader, *, payment: Payment) -> Standing:
    """What of a payment was taken, went back and is going back."""
    return await reader.one(sql.standing_of, Standing, booking=payment.booking_id, payment=payment.id)


async def delivery(reader: Reader, *, gateway: str, digest: bytes) -> Delivery | None:
    """A webhook by the SHA-256 of its body."""
    return await reader.maybe(sql.delivery, Delivery, gateway=gateway, digest=digest)


async def stranded_charges(reader: Reader) -> list[Stranded]:
    """Up to 100 charges that ended as neither ticket nor refund nor review."""
    return await reader.many(sql.stranded_charges, Stranded)


async def attention(reader: Reader) -> Attention:
    """How much waits for a person."""
    return await reader.one(sql.attention, Attention)


class PaymentLine(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as a line of the office; `amount` in minor units is all of it, or an operator's part."""

    id: UUID
    booking_id: UUID
    reference: str
    gateway: str
    method: str
    state: PaymentState
    amount: int
    currency: str
    failure_reason: str | None
    created_at: datetime


class ReviewLine(msgspec.Struct, frozen=True, kw_only=True):
    """A payment in review, why, and since when."""

    id: UUID
    booking_id: UUID
    reference: str
    amount: int
    currency: str
    reason: str
    since: datetime
    now: datetime


class RefundLine(msgspec.Struct, frozen=True, kw_only=True):
    """A refund that needs a person; `amount` None: of a booking that several operators share."""

    id: UUID
    booking_id: UUID
    reference: str
    amount: int | None
    currency: str
    reason: str
    failure_reason: str
    attempts: int
    since: datetime
    now: datetime


async def office_payments(
    reader: Reader, *, operator: UUID | None, states: Sequence[PaymentState], first: UUID, before: UUID, limit: int
) -> list[PaymentLine]:
    """Payments with ids from `first` up to `before`, the newest first; with `operator` theirs only."""
    return await reader.many(
        sql.office_payments,
        PaymentLine,
        operator=operator,
        states=list(states),
        first_id=first,
        before_id=before,
        limit=limit,
    )


async def office_reviews(reader: Reader, *, operator: UUID | None, limit: int) -> list[ReviewLine]:
    """Payments in review, the longest waiting first; with `operator` theirs only."""
    return await reader.many(sql.office_reviews, ReviewLine, operator=operator, limit=limit)


async def office_refunds(reader: Reader, *, operator: UUID | None, limit: int) -> list[RefundLine]:
    """Refunds that need a person, the longest waiting first; with `operator` theirs only."""
    return await reader.many(sql.office_refunds, RefundLine, operator=operator, limit=limit)


class _Noted(msgspec.Struct, frozen=True):
    id: UUID


async def trips_refunded(reader: Reader, *, booking: UUID) -> set[UUID]:
    """The cancelled trips for which a booking has been given back what they cost."""
    return {row.id for row in await reader.many(sql.trips_refunded, _Noted, booking=booking)}


async def owed_for_trips(reader: Reader, *, limit: int) -> list[tuple[UUID, UUID]]:
    """Bookings and cancelled trips of theirs for which nothing has gone back yet."""
    return await reader.many(sql.owed_for_trips, tuple, limit=limit)


async def charges_between(reader: Reader, *, gateway: str, since: datetime, until: datetime) -> list[Charge]:
    """What a gateway took by our books from `since` until before `until`."""
    return await reader.many(sql.charges_between, Charge, gateway=gateway, since=since, until=until)


async def open_breaks(reader: Reader, *, limit: int) -> list[OpenBreak]:
    """Where books differ, the oldest first."""
    return await reader.many(sql.open_breaks, OpenBreak, limit=limit)
