"""Where books differ: the queue with its filters and CSV, one break with all its sides, and the bank's statements."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.datastructures import UploadFile
from litestar.response import Redirect

from kiti.audit.model import Recorded
from kiti.core.errors import InvalidInput, NotAllowed
from kiti.core.money import Money
from kiti.flows import breaks
from kiti.flows.bank_statements import import_statement
from kiti.flows.breaks import EXPORT_LINES, KINDS, PAGE_LINES, Filter
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.gateways.gateway import Authorised, Captured, Declined, Missing, Pending, Truth, Unknown
from kiti.payments.model import OpenBreak
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page
from kiti.web.office.filters import Field, address, choice, day, typed
from kiti.web.office.tables import age, as_csv, stamp

COLUMNS = (
    "break",
    "kind",
    "between",
    "gateway",
    "transaction",
    "day",
    "found",
    "booking",
    "assigned",
    "closed",
    "detail",
)
BETWEEN = {
    "ledger_gateway": "our books and the gateway",
    "ledger_settlement": "our books and a settlement",
    "settlement_bank": "a settlement and the bank",
    "ledger_dispute": "our books and a dispute",
}
MEANS = {
    "missing_ours": "missing with us",
    "missing_theirs": "missing with them",
    "amount": "amount",
    "fee": "fee",
    "status": "status",
    "duplicate": "twice",
}
# As much as a statement of a year; all other pages take far less.
STATEMENT_BYTES = 4 * 1024 * 1024


@get("/reconciliation")
async def show_breaks(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """What differs, the oldest first, and the last comparisons."""
    session = await at_desk(request, house)
    require(session.staff, "payments.review")
    errors: dict[str, str] = {}
    try:
        wanted = _filter(request, house)
        found = await breaks.breaks(house, staff=session.staff, wanted=wanted)
    except InvalidInput as wrong:
        errors = {wrong.field: wrong.message}
        wanted, found = breaks.filter_of(house, gateway="", kind="", since="", until="", state=""), []
    fields = _fields(house, wanted)
    return office_page(
        "reconciliation.html",
        session=session,
        status=422 if errors else 200,
        here="reconciliation",
        wanted=wanted,
        fields=fields,
        means=MEANS,
        between=BETWEEN,
        lines=found,
        most=PAGE_LINES,
        runs=await breaks.last_runs(house),
        export=address(f"{HOME}/reconciliation.csv", fields),
        age=age,
        imported=_numbers(request, "lines", "new", "matched"),
        errors=errors,
    )


@get("/reconciliation.csv")
async def export_breaks(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All that the filter lets through, or a page that says why not."""
    session = await at_desk(request, house)
    wanted = _filter(request, house)
    found = await breaks.breaks(house, staff=session.staff, wanted=wanted, limit=EXPORT_LINES + 1)
    if len(found) > EXPORT_LINES:
        raise InvalidInput("since", f"More than {EXPORT_LINES:,} breaks. Choose fewer days, and export again.")
    return as_csv(f"breaks-{wanted.since}-{wanted.until}.csv", COLUMNS, [_cells(one) for one in found])


@get("/reconciliation/{break_id:uuid}")
async def show_break(request: Request[Any, Any, Any], house: House, break_id: UUID) -> Response[Any]:
    """One break, with what each book has of it; the gateway is asked now."""
    session = await at_desk(request, house)
    sides = await breaks.sides_of(house, staff=session.staff, break_=break_id)
    return office_page(
        "break.html",
        session=session,
        here="reconciliation",
        sides=sides,
        says=_says(sides.told),
        history=[(step.at, _words(step)) for step in sides.history],
        means=MEANS,
        between=BETWEEN,
        money=Money,
        age=age,
        done=_known(request),
    )


@post("/reconciliation/{break_id:uuid}/settle", status_code=303)
async def settle_break(request: Request[Any, Any, Any], house: House, break_id: UUID) -> Response[Any]:
    """Take over now what the gateway says."""
    session = await at_desk_with_form(request, house)
    await breaks.settle_now(house, staff=session.staff, break_=break_id)
    return _back(break_id, "settled")


@post("/reconciliation/{break_id:uuid}/take", status_code=303)
async def take_break(request: Request[Any, Any, Any], house: House, break_id: UUID) -> Response[Any]:
    """Take it on, or give it back."""
    session = await at_desk_with_form(request, house)
    is_back = (await request.form()).get("back") == "1"
    await breaks.take_on(house, staff=session.staff, break_=break_id, give_back=is_back)
    return _back(break_id, "given" if is_back else "taken")


@post("/reconciliation/{break_id:uuid}/note", status_code=303)
async def note_break(request: Request[Any, Any, Any], house: House, break_id: UUID) -> Response[Any]:
    """Write down what was found out."""
    session = await at_desk_with_form(request, house)
    text = str((await request.form()).get("note", ""))
    await breaks.note(house, staff=session.staff, break_=break_id, text=text)
    return _back(break_id, "noted")


@post("/reconciliation/{break_id:uuid}/close", status_code=303)
async def close_break(request: Request[Any, Any, Any], house: House, break_id: UUID) -> Response[Any]:
    """Close it by hand, with a reason."""
    session = await at_desk_with_form(request, house)
    reason = str((await request.form()).get("reason", ""))
    await breaks.close(house, staff=session.staff, break_=break_id, resolution=reason)
    return _back(break_id, "closed")


@post("/bank", status_code=303, request_max_body_size=STATEMENT_BYTES)
async def upload_statement(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """Keep the lines of a bank statement; the same file again adds nothing."""
    session = await at_desk_with_form(request, house)
    if not session.staff.can("payments.review"):
        raise NotAllowed("Your role does not include payments.review. Ask whoever gave you this account.")
    file = (await request.form()).get("file")
    if not isinstance(file, UploadFile):
        raise InvalidInput("file", "Choose a CSV file.")
    try:
        statement = (await file.read()).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput("file", "It is no UTF-8 text. Save it as UTF-8 CSV.") from None
    done = await import_statement(house, statement=statement, actor=session.staff.actor)
    told = {"lines": done.lines, "new": done.new, "matched": done.matched}
    return Redirect(f"{HOME}/reconciliation?{urlencode(told)}", status_code=303)


def _words(step: Recorded) -> str:
    """What somebody did, as a line."""
    what = {
        "break.settled": f"asked the gateway; the payment is {step.detail.get('state', '')}",
        "break.noted": f"noted: {step.detail.get('note', '')}",
        "break.assigned": "looks into it" if step.detail.get("to") else "gave it back",
        "break.closed": f"closed it: {step.detail.get('reason', '')}",
    }
    return f"{step.detail.get('by', step.actor)} {what.get(step.action, step.action)}"


def _says(told: Truth | None) -> str:
    """What the gateway says where it has not taken the money."""
    match told:
        case None | Captured():
            return ""
        case Missing():
            return "It knows no such transaction."
        case Declined(reason=reason):
            return f"It has declined it: {reason}"
        case Authorised():
            return "It keeps the money ready, and has not taken it yet."
        case Pending():
            return "It has not decided yet."
        case Unknown():
            return "It does not answer now."


def _filter(request: Request[Any, Any, Any], house: House) -> Filter:
    return breaks.filter_of(house, **typed(request, "gateway", "kind", "since", "until", "state"))


def _fields(house: House, wanted: Filter) -> list[Field]:
    shown = {"open": "open", "all": "closed too"}
    return [
        choice("gateway", "Gateway", list(house.gateways), wanted.gateway),
        choice("kind", "Kind", {kind: MEANS[kind] for kind in KINDS}, wanted.kind),
        day("since", "From", wanted.since),
        day("until", "To", wanted.until),
        choice("state", "Show", shown, "open" if wanted.is_open else "all", everything=None),
    ]


def _cells(one: OpenBreak) -> tuple[str, ...]:
    return (
        str(one.id),
        one.kind,
        one.sides,
        one.gateway,
        one.transaction_id,
        str(one.day),
        stamp(one.found_at),
        "" if one.booking_id is None else str(one.booking_id),
        one.assigned_to,
        "" if one.resolved_at is None else stamp(one.resolved_at),
        one.detail,
    )


def _back(break_id: UUID, done: str) -> Response[Any]:
    return Redirect(f"{HOME}/reconciliation/{break_id}?done={done}", status_code=303)


def _known(request: Request[Any, Any, Any]) -> str:
    """What the page before has to say, if it is one of our words."""
    said = request.query_params.get("done", "")
    return said if said in {"settled", "taken", "given", "noted", "closed"} else ""


def _numbers(request: Request[Any, Any, Any], *names: str) -> dict[str, int]:
    """Numbers that the page before has counted; {} unless all are there."""
    told = {name: request.query_params.get(name, "") for name in names}
    good = all(value.isascii() and value.isdecimal() and len(value) < len("1000000") for value in told.values())
    return {name: int(value) for name, value in told.items()} if good else {}


ROUTES = [
    show_breaks,
    export_breaks,
    show_break,
    settle_break,
    take_break,
    note_break,
    close_break,
    upload_statement,
]
