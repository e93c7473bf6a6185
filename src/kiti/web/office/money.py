"""Payments as a table and as CSV; what waits for a person, and how to set it going again."""

import csv
import io
from collections.abc import Collection, Sequence
from typing import Any, get_args
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.flows import office
from kiti.flows.house import House
from kiti.flows.office import EXPORT_LINES, STATES, STATUS_OF, Filter, filter_of
from kiti.flows.review import Action, attach, close_unclaimed, review
from kiti.flows.staff_refunds import refund_payment
from kiti.payments.model import REFUND_TRANSITIONS
from kiti.payments.reads import PaymentLine
from kiti.people.model import Session, Staff
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page

DECISIONS = {
    "accept": "what came was accepted, and the booking is confirmed",
    "refund": "what came is on its way back",
    "close": "the case is closed",
    "ask": "the gateway was asked",
    "attach": "the money belongs to that payment now",
}
COLUMNS = ("payment", "reference", "made", "status", "amount", "currency", "method", "gateway", "reason")
# A cell that begins with one of these is a formula to a spreadsheet, and what a gateway says is not ours.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


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
    return Response(
        _csv(lines.payments),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )


@get("/review")
async def show_queue(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Payments in review and refunds that need attention, why, and how long they wait."""
    session = await at_desk(request, house)
    waiting = await office.queue(house, staff=session.staff)
    return office_page(
        "review.html",
        session=session,
        here="review",
        waiting=waiting,
        most=office.QUEUE_LINES,
        money=Money,
        age=age,
        decided=DECISIONS.get(request.query_params.get("decided", ""), ""),
        asked=_known(request, "payment", STATES),
        sent=_known(request, "refund", REFUND_TRANSITIONS),
    )


@post("/payments/{payment_id:uuid}/ask", status_code=303)
async def ask_gateway(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """Ask the gateway about a payment in review."""
    session = await at_desk_with_form(request, house)
    settled = await office.ask_gateway(house, staff=session.staff, payment=payment_id)
    return Redirect(f"{HOME}/review?payment={STATUS_OF[settled.state]}", status_code=303)


@post("/payments/{payment_id:uuid}/review", status_code=303)
async def decide(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """Accept, send back or close a payment in review."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    action = str(form.get("action", ""))
    if action not in get_args(Action):
        raise InvalidInput("action", "Choose what becomes of it.")
    await review(house, payment=payment_id, action=action, reason=str(form.get("reason", "")), staff=session.staff)  # type: ignore[arg-type] # looked up above
    return Redirect(f"{HOME}/review?decided={action}", status_code=303)


@post("/unclaimed", status_code=303)
async def decide_unclaimed(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Say which payment money of an unknown reference is for, or close the case."""
    session = await at_desk_with_form(request, house)
    form = await request.form()
    action, gateway, transaction, payment, reason = (
        str(form.get(name, "")) for name in ("action", "gateway", "transaction", "payment", "reason")
    )
    if action == "attach":
        await attach(
            house,
            gateway=gateway,
            transaction_id=transaction,
            payment=_payment_id(payment),
            reason=reason,
            staff=session.staff,
        )
    else:
        await close_unclaimed(house, gateway=gateway, transaction_id=transaction, reason=reason, staff=session.staff)
    return Redirect(f"{HOME}/review?decided={'attach' if action == 'attach' else 'close'}", status_code=303)


@post("/payments/{payment_id:uuid}/excess", status_code=303)
async def send_excess_back(request: Request[Any, Any, Any], house: House, payment_id: UUID) -> Response[Any]:
    """What was paid beyond what was due goes back; the price stays."""
    session = await at_desk_with_form(request, house)
    await refund_payment(
        house, payment=payment_id, amount=None, reason="Paid beyond the price.", staff=session.staff, excess=True
    )
    return Redirect(f"{HOME}/payments?sent_back=1", status_code=303)


@post("/refunds/{refund_id:uuid}/send", status_code=303)
async def send_refund(request: Request[Any, Any, Any], house: House, refund_id: UUID) -> Response[Any]:
    """Send a refund that needs attention once more."""
    session = await at_desk_with_form(request, house)
    sent = await office.send_refund_again(house, staff=session.staff, refund=refund_id)
    return Redirect(f"{HOME}/review?refund={sent.state}", status_code=303)


def _payments(
    session: Session,
    wanted: Filter,
    lines: office.Lines,
    *,
    errors: dict[str, str] | None = None,
    is_sent_back: bool = False,
) -> Response[Any]:
    typed = {"status": wanted.status or "", "since": str(wanted.since), "until": str(wanted.until)}
    return office_page(
        "payments.html",
        session=session,
        status=422 if errors else 200,
        here="payments",
        wanted=wanted,
        statuses=list(STATES),
        status_of=STATUS_OF,
        lines=lines.payments,
        money=Money,
        timezone=office.timezone_of(session.staff),
        sent_back=is_sent_back,
        export=f"{HOME}/payments.csv?{urlencode(typed)}",
        older=f"{HOME}/payments?{urlencode({**typed, 'before': lines.next_before})}" if lines.next_before else "",
        errors=errors or {},
    )


def _filter(request: Request[Any, Any, Any], staff: Staff) -> Filter:
    typed = {name: request.query_params.get(name, "")[:20] for name in ("status", "since", "until")}
    return filter_of(staff, **typed)


def _cursor(request: Request[Any, Any, Any]) -> UUID | None:
    typed = request.query_params.get("before", "")
    try:
        return UUID(typed) if typed else None
    except ValueError:
        raise InvalidInput("before", "This page of the list is not there. Start from the newest.") from None


def _known(request: Request[Any, Any, Any], name: str, words: Collection[str]) -> str:
    """What the page before has to say, if it is one of our words."""
    said = request.query_params.get(name, "")
    return said if said in words else ""


def _csv(lines: Sequence[PaymentLine]) -> str:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(
        (
            line.id,
            line.reference,
            line.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
            STATUS_OF[line.state],
            Money(line.amount, line.currency).major(),
            line.currency,
            line.method,
            line.gateway,
            _harmless(line.failure_reason or ""),
        )
        for line in lines
    )
    return text.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def age(seconds: float) -> str:
    """How long something waits, roughly: 3 d, 5 h, 12 min."""
    for length, unit in ((24 * 3600, "d"), (3600, "h")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds // 60))} min"


def _payment_id(typed: str) -> UUID:
    try:
        return UUID(typed.strip())
    except ValueError:
        raise InvalidInput("payment", "Write the payment's id, as the list of payments shows it.") from None


ROUTES = [
    show_payments,
    export_payments,
    show_queue,
    ask_gateway,
    decide,
    decide_unclaimed,
    send_excess_back,
    send_refund,
]
