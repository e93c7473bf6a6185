"""All refunds as a table and as CSV; an operator sees its own part of each."""

from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Request, Response, get

from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.flows import refund_list
from kiti.flows.house import House
from kiti.flows.office import timezone_of
from kiti.flows.refund_list import STATES, STATUS_OF, Cursor, Filter, Lines, refund_filter
from kiti.payments.reads import RefundRow
from kiti.people.model import Session, Staff
from kiti.web.office.entry import HOME, at_desk, office_page
from kiti.web.office.filters import address, choice, day, typed
from kiti.web.office.tables import as_csv, stamp

EXPORT_LINES = 10_000
COLUMNS = ("refund", "reference", "asked", "status", "amount", "currency", "gateway", "because", "failure")


@get("/refunds")
async def show_refunds(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """The newest first, fifty at a time."""
    session = await at_desk(request, house)
    try:
        wanted = _filter(request, session.staff)
        before = _cursor(request)
    except InvalidInput as wrong:
        usual = refund_filter(session.staff, status="", since="", until="")
        return _page(session, usual, Lines([], None), errors={wrong.field: wrong.message})
    return _page(session, wanted, await refund_list.refunds(house, staff=session.staff, wanted=wanted, before=before))


@get("/refunds.csv")
async def export_refunds(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All that the filter lets through, or a page that says why not."""
    session = await at_desk(request, house)
    wanted = _filter(request, session.staff)
    lines = await refund_list.refunds(house, staff=session.staff, wanted=wanted, limit=EXPORT_LINES)
    if lines.next_before is not None:
        raise InvalidInput("since", f"More than {EXPORT_LINES:,} refunds. Choose fewer days, and export again.")
    return as_csv(f"refunds-{wanted.since}-{wanted.until}.csv", COLUMNS, [_cells(line) for line in lines.refunds])


def _page(session: Session, wanted: Filter, lines: Lines, *, errors: dict[str, str] | None = None) -> Response[Any]:
    fields = [
        choice("status", "Status", list(STATES), wanted.status or ""),
        day("since", "From", wanted.since),
        day("until", "To", wanted.until),
    ]
    older = ""
    if lines.next_before is not None:
        at, refund = lines.next_before
        older = address(f"{HOME}/refunds", fields, before=f"{at.isoformat()} {refund}")
    return office_page(
        "refunds.html",
        session=session,
        status=422 if errors else 200,
        here="refunds",
        fields=fields,
        status_of=STATUS_OF,
        lines=lines.refunds,
        money=Money,
        timezone=timezone_of(session.staff),
        export=address(f"{HOME}/refunds.csv", fields),
        older=older,
        errors=errors or {},
    )


def _filter(request: Request[Any, Any, Any], staff: Staff) -> Filter:
    return refund_filter(staff, **typed(request, "status", "since", "until"))


def _cursor(request: Request[Any, Any, Any]) -> Cursor | None:
    moment, _, refund = request.query_params.get("before", "").partition(" ")
    if not moment:
        return None
    try:
        at = datetime.fromisoformat(moment)
        return at, UUID(refund)
    except ValueError:
        raise InvalidInput("before", "This page of the list is not there. Start from the newest.") from None


def _cells(line: RefundRow) -> tuple[str, ...]:
    return (
        str(line.id),
        line.reference,
        stamp(line.created_at),
        STATUS_OF[line.state],
        str(Money(line.amount, line.currency).major()),
        line.currency,
        line.gateway,
        line.reason,
        line.failure_reason,
    )


ROUTES = [show_refunds, export_refunds]
