"""Send what is due: take some messages, hand them over outside any transaction, write down what became of them.

Several may do this at once: a message is taken by a guarded update, and only who took it sends it. Who dies between
sending and writing down leaves a doubt. A message is then sent once more, rather than never: a letter that comes twice
has the same Message-ID, and a text message twice is the lesser evil than no ticket. Doubts are counted, and after the
second one nothing is sent any more.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import structlog

from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat
from kiti.core.ids import first_id_at
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.letters.letter import About, write_mail, write_text
from kiti.flows.progress import advance
from kiti.gateways.delivery import Accepted, Delivery, NotNow, Rejected, Unknown
from kiti.messages import actions as messages
from kiti.messages.model import LEASE_SECONDS, Message, Outcome, doubtful, hopeless, not_now, sent

log = structlog.get_logger(__name__)

# Messages in doubt after a crash are at most those that one lane had taken.
LANES = 2
CHUNK = 10
PASS_LIMIT = 2000
PASS_SECONDS = 45.0
# Whoever has not paid by then is told how long the seats are held; holds are looked for as far back as a worker may
# have been away without it being noticed.
REMIND_AFTER_SECONDS = 120
LOOK_BACK_SECONDS = 300
# Well before the lease ends, so that whoever took a message is the one who writes down what became of it.
SEND_TIMEOUT_SECONDS = LEASE_SECONDS - 30


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass has done: messages that were handed over, and others that were tried."""

    sent: int
    not_sent: int


async def send_due(house: House) -> Sent:
    """Send what is due, up to PASS_LIMIT messages; none is begun after PASS_SECONDS. Safe beside itself."""
    await remind_holders(house)
    until = time.monotonic() + PASS_SECONDS
    await house.db.run(lambda tx: messages.recover(tx, limit=PASS_LIMIT))
    async with asyncio.TaskGroup() as group:
        lanes = [group.create_task(_lane(house, until=until)) for _ in range(LANES)]
    done = [outcome for lane in lanes for outcome in lane.result()]
    handed_over = sum(outcome.state == "sent" for outcome in done)
    return Sent(sent=handed_over, not_sent=len(done) - handed_over)


async def remind_holders(house: House, *, after_seconds: int = REMIND_AFTER_SECONDS) -> int:
    """Tell those whose seats are held, and who have not paid for a while, how to go on; how many now.

    Who pays at once is not written to, and the reservation itself does not wait for a message to be queued.
    """
    channels = house.settings.message_channels
    if not channels:
        return 0
    latest = datetime.now(UTC) - timedelta(seconds=after_seconds)

    async def work(tx: Transaction) -> int:
        waiting = await booking_reads.unreminded(
            tx,
            first=first_id_at(latest - timedelta(seconds=LOOK_BACK_SECONDS)),
            last=first_id_at(latest),
            limit=PASS_LIMIT,
        )
        await occasions.held(tx, bookings=waiting, channels=channels)
        return len(waiting)

    return await house.db.run(work)


async def _lane(house: House, *, until: float) -> list[Outcome]:
    """Chunk after chunk, each sent at once, until nothing is due."""
    done: list[Outcome] = []
    while len(done) < PASS_LIMIT // LANES and time.monotonic() < until:
        taken = await house.db.run(lambda tx: messages.take(tx, limit=CHUNK))
        if not taken:
            break
        async with house.db.reader() as reader:
            lines = await booking_reads.seats_of(reader, bookings=list({message.booking_id for message in taken}))
        outcomes = await asyncio.gather(*(_send(house, message, lines) for message in taken))
        await _finish(house, outcomes)
        done += outcomes
        sent = sum(outcome.state == "sent" for outcome in outcomes)
        advance(processed=sent, failed=len(outcomes) - sent)
    return done


async def _finish(house: House, outcomes: Sequence[Outcome]) -> None:
    told = await house.db.run(lambda tx: messages.finish(tx, outcomes=outcomes))
    if told < len(outcomes):
        log.warning("messages took so long that somebody else was given them", number=len(outcomes) - told)
    for outcome in outcomes:
        if outcome.state == "parked":
            log.info(
                "a message is given up",
                booking=str(outcome.message.booking_id),
                message=str(outcome.message.id),
                reason=outcome.reason,
            )


async def _send(house: House, message: Message, lines: Sequence[BookedSeat]) -> Outcome:
    stale = _objection(message)
    if stale is not None:
        return hopeless(message, reason=stale)
    try:
        about = await _about(house, message, [line for line in lines if line.booking_id == message.booking_id])
        async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
            delivery = await _hand_over(house, message, about)
    except Exception as error:
        # A bug in one letter must not keep the others of its chunk, which have gone out, from being written down.
        log.exception("a message could not be sent", message=str(message.id))
        return doubtful(message, reason=f"{type(error).__name__}: {error}")
    match delivery:
        case Accepted(provider_id=provider_id):
            return sent(message, provider_id=provider_id)
        case Rejected(reason=reason):
            return hopeless(message, reason=reason)
        case NotNow(reason=reason):
            return not_now(message, reason=reason)
        case Unknown(reason=reason):
            return doubtful(message, reason=reason)


def _objection(message: Message) -> str | None:
    """Why the message would be wrong or useless by now."""
    match message.kind:
        case "held" if not message.is_holding:
            return "The hold was over, or paid for, before the message could be sent."
        case "failed" if message.booking_state in {"confirmed", "completed"}:
            return "The booking was paid before the message could be sent."
        case "ticket" | "reduced" | "replaced" if message.booking_state == "cancelled":
            return "The booking was cancelled before the message could be sent."
        case _:
            return None


async def _about(house: House, message: Message, lines: Sequence[BookedSeat]) -> About:
    trips: list[UUID] = list({line.trip_id for line in lines})
    return About(
        message=message,
        lines=lines,
        trips={trip: await house.catalogue.trip(trip) for trip in trips},
        base_url=house.settings.base_url,
        secret=house.settings.jwt_secret,
    )


async def _hand_over(house: House, message: Message, about: About) -> Delivery:
    match message.channel:
        case "email":
            return await house.mailer.send(write_mail(about))
        case "sms":
            return await house.texter.send(to=message.recipient, text=write_text(about))
