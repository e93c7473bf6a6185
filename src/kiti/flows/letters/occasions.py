"""Whom to tell of what: each function queues the messages of one event, in the transaction of the event itself.

`channels` are those that are set up: `Settings.message_channels`. Who has given no address is told nothing by it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from kiti.bookings.model import Booking
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.messages import actions as messages
from kiti.messages.model import Channel, Event, NewMessage


async def held(tx: Transaction, *, bookings: Sequence[Booking], channels: Collection[Channel]) -> None:
    """Seats are held for these bookings, and not paid for yet. One statement."""
    await messages.enqueue_many(tx, new=[message for one in bookings for message in _to(one, "held", channels)])


async def paid(tx: Transaction, *, receipts: Sequence[tuple[Booking, Money]], channels: Collection[Channel]) -> None:
    """Money has come that buys these bookings: a receipt for it, and the tickets. One statement."""
    new: list[NewMessage] = []
    for booking, amount in receipts:
        new += _to(booking, "paid", channels, data={"amount": amount.amount, "currency": amount.currency})
        new += _to(booking, "ticket", channels)
    await messages.enqueue_many(tx, new=new)


async def failed(tx: Transaction, *, booking: Booking, attempt: UUID, channels: Collection[Channel]) -> None:
    """An attempt to pay for the booking came to nothing."""
    await messages.enqueue_many(tx, new=_to(booking, "failed", channels, subject=attempt))


async def changed(tx: Transaction, *, booking: Booking, channels: Collection[Channel]) -> None:
    """The booking has other seats than before. Told of each change, as it stands when the message goes out."""
    await messages.enqueue_many(tx, new=_to(booking, "changed", channels, subject=new_id()))


async def cancelled(tx: Transaction, *, bookings: Iterable[Booking], channels: Collection[Channel]) -> None:
    """These bookings were given up. One statement."""
    new = [message for booking in bookings for message in _to(booking, "cancelled", channels)]
    await messages.enqueue_many(tx, new=new)


async def reduced(
    tx: Transaction, *, booking: Booking, gone: str, gone_seats: str, amount: Money, channels: Collection[Channel]
) -> None:
    """Some seats of the booking were cancelled: these, in full and in short, for that amount. Told each time."""
    data: dict[str, str | int] = {
        "gone": gone,
        "gone_seats": gone_seats,
        "amount": amount.amount,
        "currency": amount.currency,
    }
    await messages.enqueue_many(tx, new=_to(booking, "reduced", channels, subject=new_id(), data=data))


async def replaced(
    tx: Transaction, *, booking: Booking, lost: str, decline_until: datetime, channels: Collection[Channel]
) -> None:
    """The booking has other seats than those that were lost, and whoever has it may decline them until then."""
    data: dict[str, str | int] = {"lost": lost, "decline_until": decline_until.isoformat()}
    await messages.enqueue_many(tx, new=_to(booking, "replaced", channels, data=data))


async def trip_cancelled(tx: Transaction, *, booking: Booking, trip: UUID, channels: Collection[Channel]) -> None:
    """The operator does not run one of the booking's trips. Told for each such trip, and of no other."""
    await messages.enqueue_many(tx, new=_to(booking, "cancelled", channels, subject=trip, data={"trip": str(trip)}))


async def refunded(
    tx: Transaction, *, booking: Booking, refund: UUID, amount: Money, channels: Collection[Channel]
) -> None:
    """The gateway has paid a refund back."""
    data: dict[str, str | int] = {"amount": amount.amount, "currency": amount.currency}
    await messages.enqueue_many(tx, new=_to(booking, "refunded", channels, subject=refund, data=data))


def _to(
    booking: Booking,
    event: Event,
    channels: Collection[Channel],
    *,
    subject: UUID | None = None,
    data: Mapping[str, str | int] | None = None,
) -> list[NewMessage]:
    addresses: dict[Channel, str] = {"email": booking.contact_email, "sms": booking.contact_phone}
    return [
        NewMessage(
            booking=booking.id,
            event=event,
            channel=channel,
            recipient=address,
            language=booking.language,
            subject=subject,
            data=data or {},
        )
        for channel, address in addresses.items()
        if address and channel in channels
    ]
