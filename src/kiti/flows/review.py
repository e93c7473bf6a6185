"""What a person decides about money that is not what was due: accept it, send it back, ask again, or close the case.

Each is one guarded transaction under the booking's lock, written into the audit log with its reason. Whoever decides
the same twice decides once. Money in another currency buys nothing: no rate that we know of is the traveller's.
"""

from typing import Any, Literal
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.actions import WrongState
from kiti.bookings.model import BookedSeat, Booking
from kiti.core.errors import NotFound
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.fees import reads as fee_reads
from kiti.flows.announce import announce, of_booking, of_payment
from kiti.flows.attempts import look_at_unasked
from kiti.flows.changes import reason_of
from kiti.flows.checkout import GatewayUnclear
from kiti.flows.holds import call_off, can_board, wants_of
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.plan import SeatsTaken, TripNotOnSale
from kiti.flows.prices import shares_of
from kiti.flows.settle import adopt, give_back_rest, settle_payment
from kiti.flows.staff import require
from kiti.gateways.gateway import Authorised, Captured, Declined, Missing, Pending, Unknown, UnreadableAmount
from kiti.hooks.model import Announcement
from kiti.ledger import actions as ledger
from kiti.ledger.model import accepted
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import WAITING, Charge, Payment
from kiti.people.model import Staff
from kiti.seats import actions as seats
from kiti.seats.model import Lost
from kiti.tickets import actions as tickets

Action = Literal["accept", "refund", "ask", "close"]


async def review(house: House, *, payment: UUID, action: Action, reason: str, staff: Staff) -> Payment:
    """Decide about a payment in review; the payment as it then stands.

    Raises NotAllowed, NotFound, InvalidInput without a reason, WrongState where the decision does not fit what is
    there, SeatsTaken and TripNotOnSale where accepted money has nothing to buy, GatewayUnclear where closing a case
    needs an answer that the gateway does not give. Then nothing has changed.
    """
    require(staff, "payments.review")
    if action == "refund":
        require(staff, "refunds.make")
    why = reason_of(reason)
    match action:
        case "accept":
            return await house.db.run(lambda tx: _accept(tx, house, payment, why, staff))
        case "refund":
            return await house.db.run(lambda tx: _refund(tx, house, payment, why, staff))
        case "ask":
            return await _ask(house, payment, why, staff)
        case "close":
            return await _close(house, payment, why, staff)


async def attach(
    house: House, *, gateway: str, transaction_id: str, payment: UUID, reason: str, staff: Staff
) -> Payment:
    """Money that came under a reference of nobody is for this payment, says a person; it becomes what such money does.

    A ticket if it is enough and the seats can be had, a refund if the booking was paid before or they cannot, a review
    if it is too little. Raises NotAllowed, NotFound, WrongState where the gateway did not take it or it is another
    payment's, PaymentChanged where nothing is open about it any more, GatewayUnclear.
    """
    require(staff, "payments.review")
    why = reason_of(reason)
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment)
    if found.state == "created":
        found = await house.db.run(lambda tx: look_at_unasked(tx, payment=payment))
    if found.state == "created":
        raise WrongState("That payment is only about to be sent to its gateway. Try again in a minute.")
    if found.gateway != gateway:
        raise WrongState(f"That payment was made through {found.gateway}, not through {gateway}.")
    truth = await _captured_by(house, gateway, transaction_id)
    if truth.reference != str(payment) and await _is_ours(house, truth.reference):
        raise WrongState("The gateway took it for another payment of ours: ask the gateway about that one.")

    async def work(tx: Transaction) -> Payment:
        await payments.resolve_break(
            tx,
            gateway=gateway,
            transaction_id=transaction_id,
            booking=found.booking_id,
            resolution=f"For payment {payment}: {why}",
        )
        detail = {"payment": str(payment), "transaction": transaction_id, "reason": why}
        await _note(tx, found.booking_id, staff, "payment.attached", detail)
        return await adopt(tx, house, payment=payment, truth=truth)

    return await house.db.run(work)


async def close_unclaimed(house: House, *, gateway: str, transaction_id: str, reason: str, staff: Staff) -> None:
    """Money that a gateway took is not for anything here, or was paid back in its dashboard.

    Raises NotAllowed, and PaymentChanged where nothing is open about it any more.
    """
    require(staff, "payments.review")
    why = reason_of(reason)

    async def work(tx: Transaction) -> None:
        await payments.resolve_break(
            tx, gateway=gateway, transaction_id=transaction_id, booking=None, resolution=f"Closed: {why}"
        )
        detail = {"gateway": gateway, "transaction": transaction_id, "reason": why}
        await _note(tx, staff.id, staff, "payment.unclaimed_closed", detail)

    await house.db.run(work)


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """A payment with its booking and its money, all as they stand once the booking is locked."""

    payment: Payment
    booking: Booking
    lines: list[BookedSeat]
    charges: list[Charge]
    is_paid: bool


async def _locked(tx: Transaction, payment: UUID) -> _Case:
    booking = await bookings.lock(tx, booking=(await payment_reads.by_id(tx, payment=payment)).booking_id)
    charges = await payment_reads.charges_of(tx, booking=booking.id)
    return _Case(
        payment=await payment_reads.by_id(tx, payment=payment),
        booking=booking,
        lines=await booking_reads.seats_of(tx, bookings=[booking.id]),
        charges=[charge for charge in charges if charge.payment_id == payment],
        is_paid=any(charge.purpose == "fulfils" for charge in charges),
    )


async def _accept(tx: Transaction, house: House, payment_id: UUID, reason: str, staff: Staff) -> Payment:
    case = await _locked(tx, payment_id)
    payment, booking = case.payment, case.booking
    if payment.state == "captured" and any(charge.purpose == "fulfils" for charge in case.charges):
        return payment  # it was accepted before
    charge = _acceptable(case)
    if not await can_board(tx, booking=booking, lines=case.lines):
        raise TripNotOnSale("The trip has left or was cancelled: this money can only go back.")
    outcome = (await seats.confirm(tx, wants=wants_of(case.lines)))[booking.id]
    if isinstance(outcome, Lost):
        raise SeatsTaken([seat for _, seat in outcome.seats])
    await payments.accept_charge(tx, charge=charge)
    parts = await (await fee_reads.of_payments(tx, bookings=[booking.id], payments=[payment.id]))()
    await ledger.post(
        tx,
        booking=booking.id,
        event=f"accepted:{charge.gateway}:{charge.transaction_id}",
        currency=charge.currency,
        entries=accepted(shares=shares_of(charge.amount, case.lines, parts[payment.id])),
    )
    await payments.move(tx, payment=payment, to="captured", reason=f"accepted: {reason}")
    attempts = (await (await payment_reads.of_bookings(tx, bookings=[booking.id]))())[booking.id]
    dropped = await call_off(
        tx,
        attempts=[other for other in attempts if other.id != payment.id and other.state in WAITING],
        reason="Another attempt has paid for the booking.",
    )
    await dropped()
    await bookings.move(tx, booking=booking, to="confirmed")
    await tickets.issue(tx, booking=booking.id, key=house.ticket_key)
    taken = Money(charge.amount, charge.currency)
    await occasions.paid(tx, receipts=[(booking, taken)], channels=house.settings.message_channels)
    told = of_payment("payment.captured", payment, amount=taken, purpose="FULFILS")
    await announce(tx, of_booking("booking.confirmed", booking.id), told)
    # What else came short under the same reference has bought nothing.
    await give_back_rest(tx, house, payment)
    detail = {
        "payment": str(payment.id),
        "transaction": charge.transaction_id,
        "amount": charge.amount,
        "shortfall": payment.total.amount - charge.amount,
        "currency": charge.currency,
        "reason": reason,
    }
    await _note(tx, booking.id, staff, "payment.accepted", detail)
    return await payment_reads.by_id(tx, payment=payment.id)


def _acceptable(case: _Case) -> Charge:
    """The money that could buy the seats: the largest in the right currency. Raises WrongState where none could."""
    _check_in_review(case.payment)
    if case.is_paid:
        raise WrongState("The booking was paid otherwise meanwhile: this money can only go back.")
    if case.booking.state not in {"held", "awaiting_payment", "expired"}:
        raise WrongState(f"The booking is {case.booking.standing}: this money can only go back.")
    if not case.charges:
        raise WrongState("How much came cannot be told, so it cannot be accepted.")
    fitting = [charge for charge in case.charges if charge.currency == case.payment.currency]
    if not fitting:
        raise WrongState(f"It did not come in {case.payment.currency}, so it cannot be accepted.")
    fitting = [charge for charge in fitting if charge.refund_reserved == 0]
    if not fitting:
        raise WrongState("A part of it is disputed, or has gone back: what is left can only go back too.")
    return max(fitting, key=lambda charge: charge.amount)


async def _refund(tx: Transaction, house: House, payment_id: UUID, reason: str, staff: Staff) -> Payment:
    case = await _locked(tx, payment_id)
    payment = case.payment
    is_back = all(charge.refund_reserved == charge.amount for charge in case.charges)
    if payment.state == "captured" and case.charges and is_back:
        return payment  # it was sent back before
    _check_in_review(payment)
    if not case.charges:
        raise WrongState("How much came cannot be told. Pay it back in the gateway's dashboard, then close the case.")
    if any(charge.disputed for charge in case.charges):
        raise WrongState("The traveller's bank wants this money back. Until that is decided it cannot be sent back.")
    await payments.move(tx, payment=payment, to="captured", reason=f"sent back: {reason}")
    await announce(tx, *(_taken(payment, charge) for charge in case.charges))
    await give_back_rest(tx, house, payment)
    await _note(tx, case.booking.id, staff, "payment.sent_back", {"payment": str(payment.id), "reason": reason})
    return await payment_reads.by_id(tx, payment=payment.id)


def _taken(payment: Payment, charge: Charge) -> Announcement:
    """What integrators are told of money that was in review and buys nothing."""
    amount = Money(charge.amount, charge.currency)
    return of_payment("payment.captured", payment, amount=amount, purpose=charge.purpose.upper())


async def _ask(house: House, payment_id: UUID, reason: str, staff: Staff) -> Payment:
    settled = await settle_payment(house, payment_id)
    detail = {"payment": str(payment_id), "state": settled.state, "reason": reason}
    await house.db.run(lambda tx: _note(tx, settled.booking_id, staff, "payment.asked", detail))
    return settled


async def _close(house: House, payment_id: UUID, reason: str, staff: Staff) -> Payment:
    """Only where no money is: the gateway is asked at this very moment, and money that comes later is still settled."""
    async with house.db.reader() as reader:
        found = await payment_reads.by_id(reader, payment=payment_id)
    if found.state == "failed":
        return found
    _check_in_review(found)
    await _check_no_money(house, found)

    async def work(tx: Transaction) -> Payment:
        case = await _locked(tx, payment_id)
        if case.payment.state == "failed":
            return case.payment
        _check_in_review(case.payment)
        if case.charges:
            raise WrongState("There is money: accept it or send it back.")
        await payments.move(tx, payment=case.payment, to="failed", reason=reason)
        await announce(tx, of_payment("payment.failed", case.payment, reason=reason))
        await _note(tx, case.booking.id, staff, "payment.closed", {"payment": str(payment_id), "reason": reason})
        return await payment_reads.by_id(tx, payment=payment_id)

    return await house.db.run(work)


async def _check_no_money(house: House, payment: Payment) -> None:
    gateway = house.gateway(payment.gateway)
    try:
        truth = await gateway.lookup(str(payment.id))
    except UnreadableAmount as error:
        # Its status stays "captured" for ever; that a refund stands beside it is how its end can be known.
        listed = await gateway.list_refunds(error.transaction_id)
        if isinstance(listed, Unknown):
            raise GatewayUnclear("The gateway does not say whether it paid that money back. Try again.") from error
        if not any(refund.status == "succeeded" for refund in listed):
            raise WrongState("The gateway has money. Pay it back in its dashboard first.") from error
        return
    match truth:
        case Captured() | Authorised():
            raise WrongState("The gateway has the money: ask the gateway, then accept it or send it back.")
        case Unknown():
            raise GatewayUnclear("The gateway does not say whether it has the money. Try again in a moment.")
        case Declined() | Missing() | Pending():
            return


async def _captured_by(house: House, gateway: str, transaction_id: str) -> Captured:
    """What the gateway says of a transaction that took money; raises WrongState, GatewayUnclear."""
    try:
        truth = await house.gateway(gateway).verify(transaction_id)
    except UnreadableAmount as error:
        raise WrongState(f"How much came cannot be told: {error}") from error
    match truth:
        case Captured():
            return truth
        case Unknown():
            raise GatewayUnclear("The gateway does not answer about this transaction. Try again in a moment.")
        case Authorised() | Declined() | Missing() | Pending():
            raise WrongState("The gateway has not taken this money.")


async def _is_ours(house: House, reference: str) -> bool:
    try:
        wanted = UUID(reference)
    except ValueError:
        return False
    async with house.db.reader() as reader:
        try:
            await payment_reads.by_id(reader, payment=wanted)
        except NotFound:
            return False
    return True


def _check_in_review(payment: Payment) -> None:
    if payment.state != "review":
        raise WrongState(f"This payment is {payment.state}, not in review.")


async def _note(tx: Transaction, subject: UUID, staff: Staff, action: str, detail: dict[str, Any]) -> None:
    await audit.record(tx, events=[Event(subject=subject, actor=staff.actor, action=action, detail=detail)])
