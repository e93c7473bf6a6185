"""What waits for a person: the queue with its filter, and the same as CSV. What is decided is in `money.py`."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from litestar import Request, Response, get

from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.flows import review_queue
from kiti.flows.house import House
from kiti.flows.office import EXPORT_LINES, STATES
from kiti.flows.review_queue import EVERYTHING, QUEUE_LINES, Filter, Queue, filter_of
from kiti.payments.model import REFUND_TRANSITIONS
from kiti.people.model import Session, Staff
from kiti.web.office.entry import HOME, at_desk, office_page
from kiti.web.office.filters import Field, address, choice, typed, word
from kiti.web.office.tables import Cell, age, as_csv, stamp

REASONS = {
    "too_little": "too little came",
    "other_currency": "another currency came",
    "not_told": "how much came is not told",
    "refund": "a refund did not go",
    "unclaimed": "money for nothing known",
}
AGES = {"1h": "an hour and more", "1d": "a day and more", "3d": "three days and more", "7d": "a week and more"}
DECISIONS = {
    "accept": "what came was accepted, and the booking is confirmed",
    "refund": "what came is on its way back",
    "close": "the case is closed",
    "ask": "the gateway was asked",
    "attach": "the money belongs to that payment now",
}
COLUMNS = (
    "about", "id", "reference", "gateway", "since", "hours", "due", "due currency", "came", "came currency", "detail",
)  # fmt: skip


@get("/review")
async def show_queue(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Payments in review and refunds that need attention, why, and how long they wait."""
    session = await at_desk(request, house)
    errors: dict[str, str] = {}
    wanted, waiting = EVERYTHING, Queue()
    try:
        wanted = _filter(request, house, session.staff)
        waiting = await review_queue.queue(house, staff=session.staff, wanted=wanted)
    except InvalidInput as wrong:
        errors = {wrong.field: wrong.message}
    fields = _fields(house, session, wanted)
    return office_page(
        "review.html",
        session=session,
        status=422 if errors else 200,
        here="review",
        fields=fields,
        errors=errors,
        export=address(f"{HOME}/review.csv", fields),
        is_filtered=wanted != EVERYTHING,
        wanted=wanted,
        waiting=waiting,
        most=QUEUE_LINES,
        money=Money,
        reasons=REASONS,
        age=age,
        decided=DECISIONS.get(request.query_params.get("decided", ""), ""),
        asked=_known(request, "payment", STATES),
        sent=_known(request, "refund", REFUND_TRANSITIONS),
    )


@get("/review.csv")
async def export_queue(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All that the filter lets through, or a page that says why not."""
    session = await at_desk(request, house)
    wanted = _filter(request, house, session.staff)
    waiting = await review_queue.queue(house, staff=session.staff, wanted=wanted, limit=EXPORT_LINES + 1)
    if waiting.longest > EXPORT_LINES:
        raise InvalidInput("reason", f"More than {EXPORT_LINES:,} cases. Choose fewer, and export again.")
    return as_csv("review.csv", COLUMNS, _rows(waiting))


def _filter(request: Request[Any, Any, Any], house: House, staff: Staff) -> Filter:
    return filter_of(house, staff=staff, **typed(request, "reason", "operator", "gateway", "age"))


def _fields(house: House, session: Session, wanted: Filter) -> list[Field]:
    sees_all = session.staff.bound is None
    reasons = REASONS if sees_all else {name: said for name, said in REASONS.items() if name != "unclaimed"}
    fields = [
        choice("reason", "About", reasons, wanted.reason),
        choice("gateway", "Gateway", list(house.gateways), wanted.gateway),
        choice("age", "Waits", AGES, wanted.age, everything="however long"),
    ]
    return [*fields, word("operator", "Operator (code)", wanted.operator)] if sees_all else fields


def _rows(waiting: Queue) -> Iterator[tuple[Cell, ...]]:
    for case in waiting.reviews:
        due = (Money(case.amount, case.currency).major(), case.currency)
        came: tuple[Cell, ...] = ("", "")
        if case.came is not None and case.came_currency is not None:
            came = (Money(case.came, case.came_currency).major(), case.came_currency)
        yield (
            REASONS[case.kind], str(case.id), case.reference, case.gateway, *_since(case.since, case.now), *due, *came,
            case.reason,
        )  # fmt: skip
    for refund in waiting.refunds:
        owed: tuple[Cell, ...] = ("", refund.currency)
        if refund.amount is not None:
            owed = (Money(refund.amount, refund.currency).major(), refund.currency)
        yield (
            REASONS["refund"], str(refund.id), refund.reference, refund.gateway, *_since(refund.since, refund.now),
            *owed, "", "", refund.failure_reason,
        )  # fmt: skip
    for found in waiting.unclaimed:
        yield (
            REASONS["unclaimed"], found.transaction_id, "", found.gateway, *_since(found.found_at, found.now),
            "", "", "", "", found.detail,
        )  # fmt: skip


def _since(moment: datetime, now: datetime) -> tuple[Cell, ...]:
    """Since when a case waits, and for how many whole hours."""
    return stamp(moment), int((now - moment).total_seconds() // 3600)


def _known(request: Request[Any, Any, Any], name: str, words: Collection[str]) -> str:
    """What the page before has to say, if it is one of our words."""
    said = request.query_params.get(name, "")
    return said if said in words else ""


ROUTES = [show_queue, export_queue]
