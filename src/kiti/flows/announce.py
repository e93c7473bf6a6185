"""Whom of others to tell of what: each event goes out by `announce`, in the transaction of what it tells.

`kiti.flows.deliver_hooks` sends them. Where nobody listens nothing is written. What of a booking is told beside the
details here is its state at that moment, without anything about a person; see `docs/integrators.md`.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from kiti.core.money import Money
from kiti.db import Transaction
from kiti.gateways.gateway import Captured
from kiti.hooks import actions as hooks
from kiti.hooks import reads as hook_reads
from kiti.hooks.model import Announcement, EventType
from kiti.network.model import TripDetail
from kiti.payments.model import Payment, Purpose
from kiti.settlements.model import Settlement
from kiti.tickets.model import Ticket

# As the API calls them.
STATUS: dict[str, str] = {
    "payment.captured": "COMPLETED",
    "payment.failed": "FAILED",
    "payment.review": "REVIEW",
    "refund.requested": "REQUESTED",
    "refund.succeeded": "SUCCEEDED",
    "refund.failed": "FAILED",
}


async def announce(tx: Transaction, *announcements: Announcement) -> None:
    """Tell whoever listens, if `tx` commits. The bookings have their new state already. One statement."""
    await hooks.announce(tx, announcements=announcements)


async def listened_to(tx: Transaction, type_: EventType) -> Callable[[], Awaitable[bool]]:
    """Ask whether anybody listens, for whoever would have to make many announcements; the answer, when called for."""
    return await hook_reads.listened_to(tx, type_=type_)


async def announce_cancelled_trip(tx: Transaction, detail: TripDetail, *, reason: str) -> None:
    """An operator does not run a trip. What becomes of its bookings is told by themselves."""
    trip = detail.trip
    await hooks.announce_of_operator(
        tx,
        type_="trip.cancelled",
        subject=trip.id,
        operator=trip.operator_id,
        data={
            "tripId": str(trip.id),
            "operator": trip.operator_code,
            "status": "CANCELLED",
            "departsAt": trip.departs_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": reason,
        },
    )


async def announce_paid_settlement(tx: Transaction, settlement: Settlement, *, payout: UUID) -> None:
    """A gateway says that what an operator has earned has arrived. Where it goes is not told."""
    await hooks.announce_of_operator(
        tx,
        type_="settlement.paid",
        subject=settlement.id,
        operator=settlement.operator_id,
        data={
            "settlementId": str(settlement.id),
            "payoutId": str(payout),
            "operator": settlement.operator_code,
            "status": "PAID",
            "periodStart": settlement.first_day.isoformat(),
            "periodEnd": settlement.last_day.isoformat(),
            "currency": settlement.currency,
            "amount": settlement.net,
        },
    )


def of_booking(type_: EventType, booking: UUID, **detail: Any) -> Announcement:
    """Of a booking itself."""
    return Announcement(type=type_, booking=booking, detail=detail)


def captured(payment: Payment, truth: Captured, purpose: Purpose, *, objection: str | None = None) -> Announcement:
    """A gateway has taken money: for the booking, for nothing that is left to buy, or not what was due.

    `objection` is why a person must look at it.
    """
    if objection is not None:
        return of_payment("payment.review", payment, amount=truth.amount, reason=objection)
    return of_payment("payment.captured", payment, amount=truth.amount, purpose=purpose.upper())


def of_payment(
    type_: EventType, payment: Payment, *, amount: Money | None = None, **detail: str | None
) -> Announcement:
    """Of an attempt to pay; `amount` is what the gateway took, what was asked for if it took none."""
    money = amount or payment.total
    told = {
        "paymentId": str(payment.id),
        "status": STATUS[type_],
        "amount": money.amount,
        "currency": money.currency,
        "method": payment.method,
        "gateway": payment.gateway,
        **detail,
    }
    return Announcement(type=type_, booking=payment.booking_id, detail={"payment": told})


def of_refund(
    type_: EventType, booking: UUID, refund: UUID, amount: Money, *, failure_reason: str | None = None
) -> Announcement:
    """Of money on its way back. Why it goes back is not told: people write that down about people."""
    told: dict[str, Any] = {
        "refundId": str(refund),
        "status": STATUS[type_],
        "amount": amount.amount,
        "currency": amount.currency,
    }
    if failure_reason is not None:
        told["reason"] = failure_reason
    return Announcement(type=type_, booking=booking, detail={"refund": told})


def of_ticket(ticket: Ticket, *, where: str) -> Announcement:
    """Somebody boards."""
    told = {"ticketId": str(ticket.id), "tripId": str(ticket.trip_id), "seat": ticket.seat, "where": where}
    return Announcement(type="ticket.used", booking=ticket.booking_id, trip=ticket.trip_id, detail={"ticket": told})
