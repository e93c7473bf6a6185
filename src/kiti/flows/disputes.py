"""Disputes: a traveller's bank wants money back. What the gateway tells of it is brought into our books.

While a dispute is open its amount is reserved on the charge, as refunds are, so that nobody refunds it as well; the
tickets stay good. Won, it is ours again. Lost or accepted, whoever has the money bears it as they would bear a refund;
and where nothing of the payment is left and the journey has not begun, the tickets are void and the seats are on sale
again. A payment that waited in review meanwhile is over where all of it is gone; else a person is told to decide.

A webhook and the hourly poll both end here. It may run any number of times, side by side: each dispute is looked at in
one transaction that locks its booking.
"""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import msgspec
import structlog

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.errors import KitiError
from kiti.core.ids import new_id
from kiti.db import Transaction
from kiti.disputes import actions as disputes
from kiti.disputes import reads as dispute_reads
from kiti.disputes.model import GONE, Dispute, NewDispute
from kiti.flows.announce import announce, of_booking
from kiti.flows.books import books_of
from kiti.flows.holds import can_board, wants_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.passes import each
from kiti.flows.progress import advance
from kiti.flows.refunds import by_fares, who_bears
from kiti.gateways.gateway import Disputes, GatewayDispute, Unknown
from kiti.ledger import actions as ledger
from kiti.ledger.model import Entry, dispute_opened, dispute_won
from kiti.ledger.standing import dispute_lost
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import Break, BreakKind, Charge
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets
from kiti.tickets.actions import TicketsUsed

log = structlog.get_logger(__name__)

USUAL_DAYS = 30
MOST_DAYS = 180
AT_ONCE = 4

LOST = "The payment was taken back by the bank that it came from."
REFUNDED_BEFORE = (
    "{left} of {amount} {currency} (minor units) were left of this payment, the rest was refunded before. Contest it "
    "with the proof of the refund, or bear the difference."
)
OTHER_AMOUNT = "The gateway tells {told} now instead of {known} {currency} (minor units). Compare them."
CONTRADICTED = "It has ended as {known} here, and the gateway tells {told}. Compare with its dashboard."
WON_AFTER_CANCELLING = (
    "It is won, and the booking or one of its trips has been cancelled: see whether the traveller is owed a refund."
)
STILL_IN_REVIEW = "It has ended, and its payment waits in review still: nobody could decide about it until now."
TICKETS_STAY = (
    "It is lost before the journey, and the tickets stay good: only a part of the payment is gone, or somebody has "
    "boarded. Decide with the operator."
)


class DisputesFound(msgspec.Struct, frozen=True, kw_only=True):
    """How many disputes gateways told of, how many are none of ours, and how many gateways did not answer."""

    told: int
    unknown: int
    silent: int


class _NotOurs(KitiError):
    """The gateway tells of a dispute that cannot be laid to a charge; `kind` names the break."""

    def __init__(self, kind: BreakKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


async def find_disputes(house: House, *, gateway: str | None = None) -> DisputesFound:
    """Ask every gateway that tells of disputes, or one, and bring our books to what it says."""
    total: Counter[str] = Counter()
    for name, asked in house.gateways.items():
        if gateway in {None, name} and isinstance(asked, Disputes):
            total.update(await _find(house, name, asked))
    return DisputesFound(told=total["told"], unknown=total["unknown"], silent=total["silent"])


async def take_dispute(house: House, name: str, told: GatewayDispute) -> Dispute:
    """Bring one dispute to what the gateway says. Safe to repeat; raises KitiError for one that is none of ours."""
    async with house.db.reader() as reader:
        charge = await payment_reads.charge_by_transaction(reader, gateway=name, transaction_id=told.transaction_id)
    if charge is None:
        raise _NotOurs("missing_ours", f"Dispute {told.dispute_id} is about a transaction that is none of ours.")
    if charge.currency != told.amount.currency:
        why = f"Dispute {told.dispute_id} is in {told.amount.currency}, the payment in {charge.currency}."
        raise _NotOurs("amount", why)
    try:
        return await house.db.run(lambda tx: _take(tx, house, charge, told, may_void=True))
    except TicketsUsed:
        # An inspector was quicker: the journey has begun.
        return await house.db.run(lambda tx: _take(tx, house, charge, told, may_void=False))


async def _find(house: House, name: str, gateway: Disputes) -> dict[str, int]:
    today = datetime.now(UTC).date()
    first = await _first_day(house, name, today)
    told = await gateway.disputes_between(first, today)
    if isinstance(told, Unknown):
        log.warning("disputes could not be asked for", gateway=name, reason=told.reason)
        return {"silent": 1}
    breaks: list[Break] = []
    failed = 0

    async def one(dispute: GatewayDispute) -> None:
        nonlocal failed
        try:
            await take_dispute(house, name, dispute)
        except disputes.DisputeChanged as error:
            log.info("a dispute changed meanwhile; the next round looks again", reason=str(error))
        except _NotOurs as error:
            breaks.append(_break(dispute, error, today))
            advance(failed=1)
        except Exception:
            # One dispute's trouble is not another's, and not that of answers that are due.
            failed += 1
            advance(failed=1)
            log.exception("a dispute could not be taken in", gateway=name, dispute=dispute.dispute_id)
        else:
            advance(processed=1)

    await each(told, one, at_once=AT_ONCE)
    await house.db.run(
        lambda tx: payments.put_breaks_of_sides(tx, gateway=name, sides=["ledger_dispute"], breaks=breaks)
    )
    return {"told": len(told), "unknown": len(breaks) + failed}


def _break(dispute: GatewayDispute, error: _NotOurs, today: date) -> Break:
    return Break(
        transaction_id=dispute.transaction_id,
        kind=error.kind,
        sides="ledger_dispute",
        day=today,
        booking_id=None,
        detail=str(error),
    )


async def _first_day(house: House, name: str, today: date) -> date:
    """Far enough back for every dispute that is open still, and for every break about one."""
    async with house.db.reader() as reader:
        oldest = await dispute_reads.oldest_open(reader, gateway=name)
        bound = today - timedelta(days=MOST_DAYS)
        days = await payment_reads.days_with_breaks(reader, gateway=name, sides=["ledger_dispute"], first=bound)
    wanted = [today - timedelta(days=USUAL_DAYS), *(day - timedelta(days=USUAL_DAYS) for day in days)]
    if oldest is not None:
        wanted.append(oldest.date() - timedelta(days=USUAL_DAYS))
    return max(bound, min(wanted))


async def _take(tx: Transaction, house: House, charge: Charge, told: GatewayDispute, *, may_void: bool) -> Dispute:
    booking = await bookings.lock(tx, booking=charge.booking_id)
    known = await _known(tx, charge, told)
    if known is None:
        await _open(tx, charge, told)
        known = await _known(tx, charge, told)
    assert known is not None, "it was just written"
    if known.amount != told.amount.amount:
        why = OTHER_AMOUNT.format(told=told.amount.amount, known=known.amount, currency=known.currency)
        await disputes.ask_a_person(tx, dispute=known, why=why, actor=known.gateway)
    if known.state != "open":
        if known.state != told.status and not {known.state, told.status} <= GONE:
            why = CONTRADICTED.format(known=known.state, told=told.status)
            await disputes.ask_a_person(tx, dispute=known, why=why, actor=known.gateway)
        return known
    match told.status:
        case "open":
            await disputes.answer_until(tx, dispute=known, answer_by=told.answer_by)
        case "won":
            ended = await disputes.close(tx, dispute=known, to="won", reason="The gateway gives it back.")
            await _won(tx, ended, booking)
            await _end_review(tx, ended, charge)
        case "lost" | "accepted":
            ended = await disputes.close(tx, dispute=known, to=told.status, reason=told.reason or LOST)
            await _lost(tx, house, ended, booking, charge, may_void=may_void)
            await _end_review(tx, ended, charge)
    return await dispute_reads.by_id(tx, dispute=known.id)


async def _known(tx: Transaction, charge: Charge, told: GatewayDispute) -> Dispute | None:
    found = await dispute_reads.of_booking(tx, booking=charge.booking_id)
    mine = [one for one in found if (one.gateway, one.dispute_id) == (charge.gateway, told.dispute_id)]
    return mine[0] if mine else None


async def _open(tx: Transaction, charge: Charge, told: GatewayDispute) -> None:
    """The gateway holds money back, whether or not so much of it is left: that is what its books say."""
    # As it stands now that the booking is locked. Only refunds and disputes change it, and both lock the booking first.
    charge = await _reread(tx, charge)
    amount = told.amount.amount
    reserved = min(amount, charge.left)
    attention = ""
    if reserved < amount:
        attention = REFUNDED_BEFORE.format(left=reserved, amount=amount, currency=charge.currency)
    if reserved and not await payments.reserve_dispute(
        tx, booking=charge.booking_id, gateway=charge.gateway, transaction_id=charge.transaction_id, amount=reserved
    ):
        raise disputes.DisputeChanged("A refund of this payment was asked for in this moment. Look again.")
    new = NewDispute(
        booking=charge.booking_id,
        id=new_id(),
        gateway=charge.gateway,
        dispute_id=told.dispute_id,
        transaction_id=told.transaction_id,
        amount=amount,
        currency=charge.currency,
        reserved=reserved,
        reason=told.reason,
        answer_by=told.answer_by,
        attention=attention,
    )
    await disputes.open_dispute(tx, new=new)
    event = f"dispute_opened:{new.id}"
    await _post(tx, new.booking, event, new.currency, dispute_opened(new.gateway, amount=amount))
    await _note(tx, charge, "dispute.opened", {"dispute": str(new.id), "amount": amount, "reason": told.reason})


async def _won(tx: Transaction, dispute: Dispute, booking: Booking) -> None:
    """The money is ours again, to keep or to refund."""
    if dispute.reserved:
        await payments.release_dispute(
            tx,
            booking=dispute.booking_id,
            gateway=dispute.gateway,
            transaction_id=dispute.transaction_id,
            amount=dispute.reserved,
        )
    entries = dispute_won(dispute.gateway, amount=dispute.amount)
    await _post(tx, dispute.booking_id, f"dispute_won:{dispute.id}", dispute.currency, entries)
    given_back = await payment_reads.trips_refunded(tx, booking=dispute.booking_id)
    if booking.state == "cancelled" or given_back:
        await disputes.ask_a_person(tx, dispute=dispute, why=WON_AFTER_CANCELLING, actor=dispute.gateway)
    await _note(tx, dispute, "dispute.won", {"dispute": str(dispute.id), "amount": dispute.amount})


async def _lost(
    tx: Transaction, house: House, dispute: Dispute, booking: Booking, charge: Charge, *, may_void: bool
) -> None:
    """As with a refund by staff: the price first, each operator by its fares. What was refunded before is a loss."""
    await _post(tx, booking.id, f"dispute_lost:{dispute.id}", dispute.currency, await _borne(tx, dispute, charge))
    # The money of a journey that has begun is gone, and there is nothing left to decide.
    is_before = charge.purpose == "fulfils" and booking.state == "confirmed"
    is_before = is_before and await can_board(tx, booking=booking, lines=await _still_to_run(tx, booking))
    voids = is_before and may_void and await _void(tx, house, booking, charge)
    if is_before and not voids:
        await disputes.ask_a_person(tx, dispute=dispute, why=TICKETS_STAY, actor=dispute.gateway)
    await _note(
        tx,
        dispute,
        f"dispute.{dispute.state}",
        {"dispute": str(dispute.id), "amount": dispute.amount, "cancelled": voids},
    )


async def _borne(tx: Transaction, dispute: Dispute, charge: Charge) -> list[Entry]:
    """What was reserved for the dispute is gone from the charge, and whose it was bears it."""
    charge = await _reread(tx, charge)
    of_excess = charge.of_excess(dispute.reserved)
    if dispute.reserved:
        await payments.settle_dispute(
            tx,
            booking=dispute.booking_id,
            gateway=dispute.gateway,
            transaction_id=dispute.transaction_id,
            amount=dispute.reserved,
            of_excess=of_excess,
        )
    lines = await booking_reads.every_seat_of(tx, bookings=[dispute.booking_id])
    books = (await books_of(tx, currencies={dispute.booking_id: dispute.currency}))[dispute.booking_id]
    shares = who_bears(
        charge,
        books,
        amount=dispute.reserved,
        of_excess=of_excess,
        preferred=by_fares(dispute.reserved, lines),
    )
    return dispute_lost(
        dispute.gateway, amount=dispute.amount, shares=shares, standings=books.standings, bills=books.bills
    )


async def _end_review(tx: Transaction, dispute: Dispute, charge: Charge) -> None:
    """Nobody could decide about a payment in review while its money was disputed. Now they can, or need not."""
    payment = await payment_reads.by_id(tx, payment=charge.payment_id)
    if payment.state != "review":
        return
    charges = await payment_reads.charges_of(tx, booking=charge.booking_id)
    if all(one.left == 0 and not one.disputed for one in charges if one.payment_id == payment.id):
        await payments.move(tx, payment=payment, to="captured", reason=LOST)
    else:
        await disputes.ask_a_person(tx, dispute=dispute, why=STILL_IN_REVIEW, actor=dispute.gateway)


async def _void(tx: Transaction, house: House, booking: Booking, charge: Charge) -> bool:
    """Cancel a booking, whose journey has not begun, if nothing is paid for it any more; raises TicketsUsed."""
    charge = await _reread(tx, charge)
    if charge.left:
        return False
    lines = await _still_to_run(tx, booking)
    cancelled = await bookings.move(tx, booking=booking, to="cancelled")
    await seats.release(tx, wants=wants_of(lines))
    voided = await tickets.void(tx, booking=booking.id, reason=LOST)
    if len(voided) != len(lines):
        raise TicketsUsed(sorted({line.seat for line in lines} - {ticket.seat for ticket in voided}))
    await occasions.cancelled(tx, bookings=[cancelled], channels=house.settings.message_channels)
    await announce(tx, of_booking("booking.cancelled", booking.id))
    event = Event(subject=booking.id, actor=charge.gateway, action="booking.cancelled", detail={"reason": LOST})
    await audit.record(tx, events=[event])
    return True


async def _still_to_run(tx: Transaction, booking: Booking) -> list[BookedSeat]:
    """The seats of a booking that were not given back because their trip was cancelled."""
    over = await payment_reads.trips_refunded(tx, booking=booking.id)
    return [line for line in await booking_reads.seats_of(tx, bookings=[booking.id]) if line.trip_id not in over]


async def _reread(tx: Transaction, charge: Charge) -> Charge:
    found = await payment_reads.charge(
        tx, booking=charge.booking_id, gateway=charge.gateway, transaction_id=charge.transaction_id
    )
    assert found is not None, "charges stay"
    return found


async def _post(tx: Transaction, booking: UUID, event: str, currency: str, entries: list[Entry]) -> None:
    await ledger.post(tx, booking=booking, event=event, currency=currency, entries=entries)


async def _note(tx: Transaction, about: Charge | Dispute, action: str, detail: dict[str, str | int]) -> None:
    event = Event(subject=about.booking_id, actor=about.gateway, action=action, detail=dict(detail))
    await audit.record(tx, events=[event])
