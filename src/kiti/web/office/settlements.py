"""Statements: a table, one with its lines, its papers; approve it, have it paid, ask the gateway about a payout."""

from datetime import date
from typing import Any, cast, get_args
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.core.errors import InvalidInput, NotFound
from kiti.core.money import Money
from kiti.flows.house import House
from kiti.flows.office import EXPORT_LINES, day_of
from kiti.flows.papers.statement import MEDIA_TYPES, statement_paper
from kiti.flows.payouts import look_again, request_payout
from kiti.flows.settlements import PAGE, Page, approve, list_settlements, show_statement
from kiti.people.model import Staff
from kiti.settlements.model import Settlement, State
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page
from kiti.web.office.filters import Field, address, choice, day, typed, word
from kiti.web.office.tables import Cell, as_csv, stamp

COLUMNS = (
    "statement", "operator", "name", "period", "first day", "last day", "state", "currency", "gross", "refunds",
    "commission", "fees", "other", "carried", "net", "made", "approved",
)  # fmt: skip
DONE = {"approved": "The statement is approved.", "paying": "The payout is written down and on its way."}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which statements: in one state, of one operator (its code), of periods with a day from `since` to `until`."""

    state: State | None = None
    operator: str = ""
    since: date | None = None
    until: date | None = None


@get("/settlements")
async def show_settlements(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """The newest first, fifty at a time."""
    session = await at_desk(request, house)
    errors: dict[str, str] = {}
    wanted, found = Filter(), Page([], None)
    try:
        wanted = _filter(request)
        found = await _page(house, session.staff, wanted, before=_before(request))
    except InvalidInput as wrong:
        errors = {wrong.field: wrong.message}
    fields = _fields(session.staff, wanted)
    return office_page(
        "settlements.html",
        session=session,
        status=422 if errors else 200,
        here="settlements",
        settlements=found.settlements,
        fields=fields,
        errors=errors,
        is_filtered=wanted != Filter(),
        export=address(f"{HOME}/settlements.csv", fields),
        money=Money,
        older=address(f"{HOME}/settlements", fields, before=found.next_before) if found.next_before else "",
    )


@get("/settlements.csv")
async def export_settlements(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All that the filter lets through, or a page that says why not."""
    session = await at_desk(request, house)
    found = await _page(house, session.staff, _filter(request), limit=EXPORT_LINES)
    if found.next_before is not None:
        raise InvalidInput("since", f"More than {EXPORT_LINES:,} statements. Choose fewer days, and export again.")
    return as_csv("settlements.csv", COLUMNS, [_cells(one) for one in found.settlements])


@get("/settlements/{settlement_id:uuid}")
async def show_settlement(request: Request[Any, Any, Any], house: House, settlement_id: UUID) -> Response[Any]:
    """One with a page of its lines."""
    session = await at_desk(request, house)
    found = await show_statement(house, settlement=settlement_id, staff=session.staff, after=_after(request))
    address = f"{HOME}/settlements/{settlement_id}"
    return office_page(
        "settlement.html",
        session=session,
        here="settlements",
        settlement=found.settlement,
        lines=found.lines,
        payouts=found.payouts,
        forms=list(MEDIA_TYPES),
        address=address,
        money=Money,
        done=DONE.get(request.query_params.get("done", ""), ""),
        may_approve=_may_approve(found.settlement, session.staff),
        may_pay=_may_pay(found.settlement, session.staff),
        more=f"{address}?after={':'.join(map(str, found.next_after))}" if found.next_after else "",
    )


@get("/settlements/{settlement_id:uuid}/{form:str}")
async def download(request: Request[Any, Any, Any], house: House, settlement_id: UUID, form: str) -> Response[Any]:
    """The whole of it as a file."""
    session = await at_desk(request, house)
    if form not in MEDIA_TYPES:
        raise NotFound("There is no such file.")
    paper = await statement_paper(house, settlement=settlement_id, form=cast("Any", form), staff=session.staff)
    return Response(
        paper.body,
        media_type=paper.media_type,
        headers={"Content-Disposition": f'attachment; filename="{paper.name}"', "Cache-Control": "no-store"},
    )


@post("/settlements/{settlement_id:uuid}/approve", status_code=303)
async def approve_settlement(request: Request[Any, Any, Any], house: House, settlement_id: UUID) -> Response[Any]:
    """Say that a draft is right."""
    session = await at_desk_with_form(request, house)
    await approve(house, settlement=settlement_id, staff=session.staff)
    return Redirect(f"{HOME}/settlements/{settlement_id}?done=approved", status_code=303)


@post("/settlements/{settlement_id:uuid}/pay", status_code=303)
async def pay_settlement(request: Request[Any, Any, Any], house: House, settlement_id: UUID) -> Response[Any]:
    """Have it paid."""
    session = await at_desk_with_form(request, house)
    await request_payout(house, settlement=settlement_id, staff=session.staff)
    return Redirect(f"{HOME}/settlements/{settlement_id}?done=paying", status_code=303)


@post("/payouts/{payout_id:uuid}/ask", status_code=303)
async def ask_about_payout(request: Request[Any, Any, Any], house: House, payout_id: UUID) -> Response[Any]:
    """Believe what the gateway says now about a payout that waits for a person."""
    session = await at_desk_with_form(request, house)
    payout = await look_again(house, payout=payout_id, staff=session.staff)
    return Redirect(f"{HOME}/settlements/{payout.settlement_id}", status_code=303)


def _filter(request: Request[Any, Any, Any]) -> Filter:
    said = typed(request, "state", "operator", "since", "until")
    if said["state"] not in {"", *get_args(State)}:
        raise InvalidInput("state", "There is no such state of a statement.")
    state = cast("State | None", said["state"] or None)
    since, until = day_of(said["since"], "since"), day_of(said["until"], "until")
    if since is not None and until is not None and until < since:
        raise InvalidInput("since", "The first day comes first.")
    return Filter(state=state, operator=said["operator"], since=since, until=until)


def _fields(staff: Staff, wanted: Filter) -> list[Field]:
    fields = [
        choice("state", "State", get_args(State), wanted.state or ""),
        day("since", "From", wanted.since),
        day("until", "To", wanted.until),
    ]
    return fields if staff.operator else [*fields, word("operator", "Operator (code)", wanted.operator)]


async def _page(house: House, staff: Staff, wanted: Filter, *, before: UUID | None = None, limit: int = PAGE) -> Page:
    return await list_settlements(
        house,
        staff=staff,
        code=wanted.operator,
        state=wanted.state,
        since=wanted.since,
        until=wanted.until,
        before=before,
        limit=limit,
    )


def _cells(one: Settlement) -> tuple[Cell, ...]:
    amounts = (one.gross, one.refunds, one.commission, one.fees, one.other, one.carried, one.net)
    return (
        str(one.id),
        one.operator_code,
        one.operator_name,
        one.period,
        str(one.first_day),
        str(one.last_day),
        one.state,
        one.currency,
        *(Money(amount, one.currency).major() for amount in amounts),
        stamp(one.made_at),
        "" if one.approved_at is None else stamp(one.approved_at),
    )


def _may_approve(settlement: Settlement, staff: Staff) -> bool:
    return settlement.state == "draft" and staff.can("settlements.approve")


def _may_pay(settlement: Settlement, staff: Staff) -> bool:
    """Whoever approved it is not offered to pay it."""
    is_due = settlement.state in {"approved", "failed"}
    return is_due and staff.can("settlements.approve") and settlement.approved_by != staff.actor


def _before(request: Request[Any, Any, Any]) -> UUID | None:
    typed = request.query_params.get("before", "")
    try:
        return UUID(typed) if typed else None
    except ValueError:
        raise InvalidInput("before", "This page of the list is not there. Start from the newest.") from None


def _after(request: Request[Any, Any, Any]) -> tuple[UUID, UUID] | None:
    booking, _, trip = request.query_params.get("after", "").partition(":")
    try:
        return (UUID(booking), UUID(trip)) if booking else None
    except ValueError:
        raise InvalidInput("after", "This page of the lines is not there. Start from the first.") from None


ROUTES = [
    show_settlements,
    export_settlements,
    show_settlement,
    download,
    approve_settlement,
    pay_settlement,
    ask_about_payout,
]
