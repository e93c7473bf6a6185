"""Reading payments."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from typing import Literal
from uuid import UUID

import msgspec

from kiti.core.errors import NotFound
from kiti.db import Reader, load
from kiti.payments.model import (
    BreakKind,
    Charge,
    OpenBreak,
    Option,
    Payment,
    PaymentState,
    Refund,
    RefundState,
    RefundStep,
    Run,
    Sides,
    Standing,
    Step,
)

sql = load("kiti.payments")

# More than any payment has: the gateway may ask and the traveller answer again and again.
NO_SUCH_REFUND = "There is no such refund."
MOST_STEPS = 500


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


async def history(reader: Reader, *, payment: Payment) -> list[Step]:
    """What has become of a payment, step by step, the first MOST_STEPS of them."""
    return await reader.many(sql.history, Step, booking=payment.booking_id, payment=payment.id, limit=MOST_STEPS)


async def refund_history(reader: Reader, *, refund: Refund) -> list[RefundStep]:
    """The same of a refund."""
    return await reader.many(
        sql.refund_history, RefundStep, booking=refund.booking_id, refund=refund.id, limit=MOST_STEPS
    )


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


async def charges_of_bookings(reader: Reader, *, bookings: Sequence[UUID]) -> dict[UUID, list[Charge]]:
    """The same for many, by booking."""
    found: dict[UUID, list[Charge]] = {booking: [] for booking in bookings}
    for charge in await reader.many(sql.charges_of_bookings, Charge, bookings=list(bookings)):
        found[charge.booking_id].append(charge)
    return found


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
        raise NotFound(NO_SUCH_REFUND)
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
    """A payment as a line of the office; `amount` in minor units is all of it, or an operator's part.

    `excess` was paid beyond what was due and can go back; nobody but staff of the platform is told.
    """

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
    excess: int = 0


# What of a payment in review is not as it should be, as far as the money that waits tells.
ReviewKind = Literal["too_little", "other_currency", "not_told"]


class ReviewLine(msgspec.Struct, frozen=True, kw_only=True):
    """A payment in review, why, in a word and in a sentence, and since when.

    `amount` is what was due; `came` is the money that waits, None where there is none that could be told, and for
    staff of an operator.
    """

    id: UUID
    booking_id: UUID
    reference: str
    gateway: str
    kind: ReviewKind
    amount: int
    currency: str
    came: int | None
    came_currency: str | None
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
    gateway: str
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


async def office_reviews(
    reader: Reader,
    *,
    operator: UUID | None,
    code: str,
    gateway: str,
    kinds: Sequence[ReviewKind],
    older_seconds: int,
    limit: int,
) -> list[ReviewLine]:
    """Payments in review for so long at least, the longest waiting first; with `operator` theirs only.

    `code` (of an operator) and `gateway` "" are all of them.
    """
    return await reader.many(
        sql.office_reviews,
        ReviewLine,
        operator=operator,
        code=code,
        gateway=gateway,
        kinds=list(kinds),
        older_seconds=older_seconds,
        limit=limit,
    )


async def office_refunds(
    reader: Reader, *, operator: UUID | None, code: str, gateway: str, older_seconds: int, limit: int
) -> list[RefundLine]:
    """Refunds that need a person, asked for so long ago at least; otherwise like `office_reviews`."""
    return await reader.many(
        sql.office_refunds,
        RefundLine,
        operator=operator,
        code=code,
        gateway=gateway,
        older_seconds=older_seconds,
        limit=limit,
    )


class _Noted(msgspec.Struct, frozen=True):
    id: UUID


async def trips_refunded(reader: Reader, *, booking: UUID) -> set[UUID]:
    """The cancelled trips for which a booking has been given back what they cost."""
    return {row.id for row in await reader.many(sql.trips_refunded, _Noted, booking=booking)}


async def trips_given_back(reader: Reader, *, bookings: Sequence[UUID]) -> set[tuple[UUID, UUID]]:
    """The same for many, booking and trip; without those that wait for a dispute, or for a person who decides."""
    return set(await reader.many(sql.trips_given_back, tuple, bookings=list(bookings)))


async def owed_for_trips(reader: Reader, *, after: tuple[UUID, UUID], limit: int) -> list[tuple[UUID, UUID]]:
    """A page of bookings and cancelled trips of theirs for which nothing has gone back yet, in their order."""
    booking, trip = after
    return await reader.many(sql.owed_for_trips, tuple, after=booking, after_trip=trip, limit=limit)


async def charges_between(reader: Reader, *, gateway: str, since: datetime, until: datetime) -> list[Charge]:
    """What a gateway took by our books from `since` until before `until`."""
    return await reader.many(sql.charges_between, Charge, gateway=gateway, since=since, until=until)


async def charge_by_transaction(reader: Reader, *, gateway: str, transaction_id: str) -> Charge | None:
    """The charge for a gateway's transaction, whatever booking it is of."""
    return await reader.maybe(sql.charge_by_transaction, Charge, gateway=gateway, transaction_id=transaction_id)


async def open_breaks(reader: Reader, *, limit: int) -> list[OpenBreak]:
    """Where books differ, the oldest first."""
    return await reader.many(sql.open_breaks, OpenBreak, limit=limit)


async def unclaimed(reader: Reader, *, gateway: str, older_seconds: int, limit: int) -> list[OpenBreak]:
    """Money for nothing that we know, of one gateway or (with "") of all, known for so long; the oldest first."""
    return await reader.many(sql.unclaimed, OpenBreak, gateway=gateway, older_seconds=older_seconds, limit=limit)


async def breaks_like(
    reader: Reader,
    *,
    gateways: Sequence[str],
    kinds: Sequence[BreakKind],
    since: date,
    until: date,
    is_open: bool,
    limit: int,
) -> list[OpenBreak]:
    """Breaks about transactions of these days, the oldest first; `is_open` leaves out those that are closed."""
    return await reader.many(
        sql.breaks_like,
        OpenBreak,
        gateways=list(gateways),
        kinds=list(kinds),
        since=since,
        until=until,
        is_open=is_open,
        limit=limit,
    )


async def break_by_id(reader: Reader, *, break_: UUID) -> OpenBreak:
    """A break, open or closed; raises NotFound."""
    found = await reader.maybe(sql.break_by_id, OpenBreak, id=break_)
    if found is None:
        raise NotFound("There is no such break.")
    return found


async def days_with_breaks(reader: Reader, *, gateway: str, sides: Sequence[Sides], first: date) -> list[date]:
    """The days from `first` on of which something is open between these sides, up to 100."""
    rows: list[tuple[date]] = await reader.many(
        sql.days_with_breaks, tuple, gateway=gateway, sides=list(sides), first=first
    )
    return [day for (day,) in rows]


async def runs(reader: Reader, *, limit: int) -> list[Run]:
    """The last comparisons, the newest first."""
    return await reader.many(sql.runs, Run, limit=limit)


class RefundRow(msgspec.Struct, frozen=True, kw_only=True):
    """A refund as a line of the office; `amount` in minor units is all of it, or an operator's part."""

    id: UUID
    booking_id: UUID
    reference: str
    amount: int
    currency: str
    gateway: str
    reason: str
    state: RefundState
    failure_reason: str
    created_at: datetime


async def refund_lines(
    reader: Reader,
    *,
    operator: UUID | None,
    states: Sequence[RefundState],
    since: datetime,
    before: tuple[datetime, UUID],
    limit: int,
) -> list[RefundRow]:
    """Refunds asked for from `since` on and up to `before` (moment and id), the newest first; with `operator` theirs.

    Some have ids that do not tell their time, so a moment and an id are the cursor.
    """
    return await reader.many(
        sql.refund_lines,
        RefundRow,
        operator=operator,
        states=list(states),
        since=since,
        before_at=before[0],
        before_id=before[1],
        limit=limit,
    )
