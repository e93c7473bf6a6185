"""What runs by the clock: bounded passes over what is due. Running one twice at once does no harm."""

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from kiti.flows import holds
from kiti.flows.cancel_trip import finish_cancelled_trips
from kiti.flows.deliver_hooks import deliver_due, forget_old_events
from kiti.flows.dispute_answers import remind_staff, send_due_answers
from kiti.flows.disputes import find_disputes
from kiti.flows.house import House
from kiti.flows.idempotency import forget_old
from kiti.flows.messages import send_due
from kiti.flows.passes import work_off
from kiti.flows.payouts import process_payout
from kiti.flows.reconcile import reconcile
from kiti.flows.refunds import process_refund
from kiti.flows.revenue import recognise_revenue as recognise
from kiti.flows.settle import settle_payment
from kiti.flows.settlements import calculate_settlements as calculate
from kiti.flows.timetable import generate_coming_trips
from kiti.flows.webhooks import forget_old_webhooks
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.settlements import actions as settlement_actions
from kiti.settlements import reads as settlement_reads

TIMETABLE_DAYS = 30


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How much of what was due has been done, and how much could not be."""

    processed: int
    failed: int = 0


async def expire_seats(house: House) -> Tally:
    """Sweep up lapsed holds and mark journeys that have ended."""
    swept = await holds.expire_seats(house.db)
    return Tally(processed=swept.expired + swept.completed)


async def poll_payments(house: House) -> Tally:
    """Ask gateways about payments that are due for it: webhooks get lost, mobile money takes minutes."""
    step = partial(settle_payment, house)
    processed, failed = await work_off(house.db, payment_reads.due_for_poll, step, payments.postpone_poll)
    return Tally(processed=processed, failed=failed)


async def process_refunds(house: House) -> Tally:
    """Take every refund that is due one step on."""
    step = partial(process_refund, house)
    processed, failed = await work_off(house.db, payment_reads.due_refunds, step, payments.postpone_refund)
    return Tally(processed=processed, failed=failed)


async def generate_trips(house: House) -> Tally:
    """Make the departures of the coming days from their schedules."""
    processed, failed = await generate_coming_trips(house.db, days=TIMETABLE_DAYS)
    return Tally(processed=processed, failed=failed)


async def cleanup_idempotency(house: House) -> Tally:
    """Forget keys that are too old to be used again, events of a month ago, gateways' webhooks of long ago."""
    return Tally(processed=await forget_old(house) + await forget_old_events(house) + await forget_old_webhooks(house))


async def send_notifications(house: House) -> Tally:
    """Send travellers the messages that are due."""
    done = await send_due(house)
    return Tally(processed=done.sent, failed=done.not_sent)


async def deliver_webhooks(house: House) -> Tally:
    """Tell integrators' endpoints of the events that are due."""
    done = await deliver_due(house)
    return Tally(processed=done.delivered, failed=done.not_delivered)


async def reconcile_payments(house: House) -> Tally:
    """Compare the last days with the gateways' own lists, and take over what was missed."""
    compared = await reconcile(house)
    processed = compared.transactions + compared.settlements + compared.disputes
    return Tally(processed=processed, failed=compared.differing + compared.silent)


async def poll_disputes(house: House) -> Tally:
    """Ask gateways about disputes, tell them answers that may be lost, remind staff of those that nobody answers."""
    found = await find_disputes(house)
    sent, not_sent = await send_due_answers(house)
    reminded = await remind_staff(house)
    return Tally(processed=found.told + sent + reminded, failed=found.silent + found.unknown + not_sent)


async def refund_cancelled_trips(house: House) -> Tally:
    """Give back what cancelled trips still owe."""
    processed, failed = await finish_cancelled_trips(house)
    return Tally(processed=processed, failed=failed)


async def recognise_revenue(house: House) -> Tally:
    """Turn what travellers who have boarded paid into what operators have earned."""
    processed, failed = await recognise(house)
    return Tally(processed=processed, failed=failed)


async def calculate_settlements(house: House) -> Tally:
    """Make the statements of periods that have ended."""
    processed, failed = await calculate(house)
    return Tally(processed=processed, failed=failed)


async def payouts(house: House) -> Tally:
    """Take every payout that is due one step on."""
    step = partial(process_payout, house)
    processed, failed = await work_off(house.db, settlement_reads.due_payouts, step, settlement_actions.postpone_payout)
    return Tally(processed=processed, failed=failed)


JOBS: dict[str, Callable[[House], Awaitable[Tally]]] = {
    "expire-seats": expire_seats,
    "poll-payments": poll_payments,
    "process-refunds": process_refunds,
    "generate-trips": generate_trips,
    "cleanup-idempotency": cleanup_idempotency,
    "reconcile-payments": reconcile_payments,
    "poll-disputes": poll_disputes,
    "refund-cancelled-trips": refund_cancelled_trips,
    "send-notifications": send_notifications,
    "recognise-revenue": recognise_revenue,
    "calculate-settlements": calculate_settlements,
    "payouts": payouts,
    "deliver-webhooks": deliver_webhooks,
}

# Tasks that are deferred by an event, not by the clock.
EVENT_TASKS = ("process_webhook", "process_refund")
