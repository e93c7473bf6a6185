"""How an attempt to pay ends that no money came of: the hold is an ordinary one again.

One that was `created` and abandoned ends here without a look at its gateway, which never heard of it.
"""

from datetime import timedelta
from uuid import UUID

from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import Booking
from kiti.db import Transaction
from kiti.flows.holds import hold_until, wants_of
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import Payment
from kiti.seats import actions as seats

# A traveller who has been declined gets this long to try again, even if the hold would be over.
RETRY_GRACE_MINUTES = 3
NEVER_ASKED = "The payment service was never asked."


async def look_at_unasked(tx: Transaction, *, payment: UUID) -> Payment:
    """Give up an attempt that was abandoned; one whose gateway is asked any moment stays. As it then stands."""
    found = await payment_reads.by_id(tx, payment=payment)
    booking = await bookings.lock(tx, booking=found.booking_id)
    found = await payment_reads.by_id(tx, payment=payment)
    if not found.is_abandoned:
        return found
    await give_up_unasked(tx, payment=found)
    await back_to_hold(tx, booking)
    return await payment_reads.by_id(tx, payment=payment)


async def give_up_unasked(tx: Transaction, *, payment: Payment) -> None:
    """Nobody was asked about an abandoned attempt, so there is nothing to look up. The booking is locked."""
    assert payment.is_abandoned, "its gateway may be asked any moment"
    await payments.move(tx, payment=payment, to="expired", reason=NEVER_ASKED)
    await payments.poll_no_more(tx, payment=payment)


async def back_to_hold(tx: Transaction, booking: Booking) -> None:
    """Back to an ordinary hold: its own end, or a short grace in which to try again."""
    if booking.state == "expired":
        # Seats that were kept for a late authorisation, after the hold was over.
        await seats.release(tx, wants=wants_of(await booking_reads.seats_of(tx, bookings=[booking.id])))
    if booking.state != "awaiting_payment":
        return
    await bookings.move(tx, booking=booking, to="held")
    if booking.is_lapsed:
        return
    grace = min(booking.now + timedelta(minutes=RETRY_GRACE_MINUTES), booking.hold_expires_at)
    until = max(booking.hold_until, grace)
    if until < booking.hold_expires_at:
        await hold_until(tx, booking=booking, until=until)
