"""Payments as a table and as CSV, and one of them with every step that it took."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, get

from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.flows import office
from kiti.flows.house import House
from kiti.flows.office import EXPORT_LINES, STATES, STATUS_OF, Filter, filter_of
from kiti.flows.payment_story import story_of
from kiti.payments.reads import PaymentLine
from kiti.people.model import Session, Staff
from kiti.web.office.entry import HOME, at_desk, office_page
from kiti.web.office.filters import Field, address, choice, day, typed
from kiti.web.office.tables import Cell, as_csv, stamp

COLUMNS = ("payment", "reference", "made", "status", "amount", "currency", "method", "gateway", "reason")


@get("/payments")
async def show_payments(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """The newest first, fifty at a time."""
    session = await at_desk(request, house)
    try:
        wanted = _filter(request, session.staff)
        before = _cursor(request)
    except InvalidInput as wrong:
        usual = filter_of(session.staff, status="", since="", until="")
        return _payments(session, usual, office.Lines([], None), errors={wrong.field: wrong.message})
    lines = await office.payments(house, staff=session.staff, wanted=wanted, before=before)
    return _payments(session, wanted, lines, is_sent_back="sent_back" in request.query_params)


@get("/payments.csv")
async def export_payments(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All that the filter lets through, or a page that says why not."""
    session = await at_desk(request, house)
    wanted = _filter(request, session.staff)
    lines = await office.payments(house, staff=session.staff, wanted=wanted, limit=EXPORT_LINES)
    if lines.next_before is not None:
        raise InvalidInput("since", f"More than {EXPORT_LINES:,} payments. Choose fewer days, and export again.")
    name = f"payments-{wanted.since}-{wanted.until}{f'-{wanted.status}' if wanted.status else ''}.csv"
    return as_csv(name, COLUMNS, [cells(line) for line in lines.payments])


@get("/payments/{payment_id:uuid}")
async def show_payment(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """How one stands, what came of it, and how it came to that."""
    session = await at_desk(request, house)
    return office_page(
        "payment.html",
        session=session,
        here="payments",
        story=await story_of(house, staff=session.staff, payment=payment_id),
        status_of=STATUS_OF,
        money=Money,
        timezone=office.timezone_of(session.staff),
    )


def cells(line: PaymentLine) -> tuple[Cell, ...]:
    """A line of the file, in the order of COLUMNS."""
    return (
        str(line.id),
        line.reference,
        stamp(line.created_at),
        STATUS_OF[line.state],
        str(Money(line.amount, line.currency).major()),
        line.currency,
        line.method,
        line.gateway,
        line.failure_reason or "",
    )


def _payments(
    session: Session,
    wanted: Filter,
    lines: office.Lines,
    *,
    errors: dict[str, str] | None = None,
    is_sent_back: bool = False,
) -> Response[Any]:
    fields = _fields(wanted)
    return office_page(
        "payments.html",
        session=session,
        status=422 if errors else 200,
        here="payments",
        fields=fields,
        status_of=STATUS_OF,
        lines=lines.payments,
        money=Money,
        timezone=office.timezone_of(session.staff),
        sent_back=is_sent_back,
        export=address(f"{HOME}/payments.csv", fields),
        older=address(f"{HOME}/payments", fields, before=lines.next_before) if lines.next_before else "",
        errors=errors or {},
    )


def _filter(request: Request[Any, Any, Any], staff: Staff) -> Filter:
    return filter_of(staff, **typed(request, "status", "since", "until"))


def _fields(wanted: Filter) -> list[Field]:
    return [
        choice("status", "Status", list(STATES), wanted.status or ""),
        day("since", "From", wanted.since),
        day("until", "To", wanted.until),
    ]


def _cursor(request: Request[Any, Any, Any]) -> UUID | None:
    said = request.query_params.get("before", "")
    try:
        return UUID(said) if said else None
    except ValueError:
        raise InvalidInput("before", "This page of the list is not there. Start from the newest.") from None


ROUTES = [show_payments, export_payments, show_payment]
