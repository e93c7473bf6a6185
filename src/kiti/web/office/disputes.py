"""Money that travellers' banks want back: what can be answered and until when, and the answers."""

from typing import Any, get_args
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.response import Redirect

from kiti.core.errors import InvalidInput
from kiti.core.money import Money
from kiti.disputes import reads as dispute_reads
from kiti.disputes.model import TRANSITIONS, Answer, DisputeLine
from kiti.flows.dispute_answers import answer_dispute, looked_at
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.gateways.gateway import Disputes
from kiti.web.office.entry import HOME, at_desk, at_desk_with_form, office_page
from kiti.web.office.filters import Field, address, choice, typed
from kiti.web.office.tables import as_csv, stamp

ALL = "all"
MOST_SHOWN = 200
EXPORT_LINES = 10_000
COLUMNS = (
    "dispute", "booking", "amount", "currency", "state", "opened", "answer by", "answer", "gateway", "transaction",
    "reason", "attention",
)  # fmt: skip


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which disputes: those that wait (""), all, or those in one state; of one gateway or (with "") of all."""

    state: str
    gateway: str


@get("/disputes")
async def show_disputes(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """What waits, the most urgent first, or what the filter asks for."""
    session = await at_desk(request, house)
    require(session.staff, "payments.review")
    errors: dict[str, str] = {}
    wanted = Filter(state="", gateway="")
    try:
        wanted = _filter(request, house)
    except InvalidInput as wrong:
        errors = {wrong.field: wrong.message}
    fields = _fields(house, wanted)
    return office_page(
        "disputes.html",
        session=session,
        status=422 if errors else 200,
        here="disputes",
        lines=[] if errors else await _lines(house, wanted, limit=MOST_SHOWN),
        most=MOST_SHOWN,
        fields=fields,
        errors=errors,
        export=address(f"{HOME}/disputes.csv", fields),
        is_usual=wanted == Filter(state="", gateway=""),
        answerable={name for name, gateway in house.gateways.items() if isinstance(gateway, Disputes)},
        money=Money,
        told=_told(request),
    )


@get("/disputes.csv")
async def export_disputes(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All that the filter lets through, or a page that says why not."""
    session = await at_desk(request, house)
    require(session.staff, "payments.review")
    lines = await _lines(house, _filter(request, house), limit=EXPORT_LINES + 1)
    if len(lines) > EXPORT_LINES:
        raise InvalidInput("state", f"More than {EXPORT_LINES:,} disputes. Choose fewer, and export again.")
    return as_csv("disputes.csv", COLUMNS, [_cells(line) for line in lines])


@post("/disputes/{dispute_id:uuid}/answer", status_code=303)
async def answer(request: Request[Any, Any, Any], house: House, dispute_id: UUID) -> Response[Any]:
    """Accept or contest, with a comment."""
    session = await at_desk_with_form(request, house)
    require(session.staff, "payments.review")
    form = await request.form()
    wanted = str(form.get("answer", ""))
    if wanted not in get_args(Answer):
        raise InvalidInput("answer", "Accept it or contest it.")
    found = await answer_dispute(
        house,
        dispute=dispute_id,
        answer=wanted,  # type: ignore[arg-type] # looked up above
        comment=str(form.get("comment", "")),
        actor=session.staff.actor,
    )
    return Redirect(f"{HOME}/disputes?told={found.answer_state or 'sent'}", status_code=303)


@post("/disputes/{dispute_id:uuid}/done", status_code=303)
async def note_done(request: Request[Any, Any, Any], house: House, dispute_id: UUID) -> Response[Any]:
    """Say what was done about one that needed a person."""
    session = await at_desk_with_form(request, house)
    require(session.staff, "payments.review")
    text = str((await request.form()).get("note", ""))
    await looked_at(house, dispute=dispute_id, note=text, actor=session.staff.actor)
    return Redirect(f"{HOME}/disputes?told=noted", status_code=303)


def _filter(request: Request[Any, Any, Any], house: House) -> Filter:
    said = typed(request, "state", "gateway")
    if said["state"] not in {"", ALL, *TRANSITIONS}:
        raise InvalidInput("state", "There is no such state of a dispute.")
    if said["gateway"] not in {"", *house.gateways}:
        raise InvalidInput("gateway", "There is no such gateway.")
    return Filter(**said)


def _fields(house: House, wanted: Filter) -> list[Field]:
    return [
        choice("state", "State", [*TRANSITIONS, ALL], wanted.state, everything="what waits"),
        choice("gateway", "Gateway", list(house.gateways), wanted.gateway),
    ]


async def _lines(house: House, wanted: Filter, *, limit: int) -> list[DisputeLine]:
    states = [state for state in TRANSITIONS if wanted.state in {"", ALL, state}]
    async with house.db.reader() as reader:
        return await dispute_reads.lines(
            reader, states=states, is_waiting=not wanted.state, gateway=wanted.gateway, limit=limit
        )


def _cells(line: DisputeLine) -> tuple[str, ...]:
    dispute = line.dispute
    return (
        str(dispute.id),
        line.reference,
        str(Money(dispute.amount, dispute.currency).major()),
        dispute.currency,
        dispute.state,
        stamp(dispute.opened_at),
        "" if dispute.answer_by is None else stamp(dispute.answer_by),
        f"{dispute.answer} {dispute.answer_state}" if dispute.answer else "",
        dispute.gateway,
        dispute.transaction_id,
        dispute.reason,
        dispute.attention,
    )


def _told(request: Request[Any, Any, Any]) -> str:
    said = request.query_params.get("told", "")
    return said if said in {"sent", "submitting", "refused", "noted"} else ""


ROUTES = [show_disputes, export_disputes, answer, note_done]
