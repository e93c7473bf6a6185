"""Money that travellers' banks want back: what can be answered and until when, and the answers."""

from typing import Any, get_args
from uuid import UUID

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
from kiti.web.office.tables import as_csv, stamp

MOST_SHOWN = 200
EXPORT_LINES = 10_000
COLUMNS = (
    "dispute", "booking", "amount", "currency", "state", "opened", "answer by", "answer", "gateway", "transaction",
    "reason", "attention",
)  # fmt: skip


@get("/disputes")
async def show_disputes(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """What waits, the most urgent first; with ?state=all those that are over too."""
    session = await at_desk(request, house)
    require(session.staff, "payments.review")
    is_all = request.query_params.get("state", "") == "all"
    answerable = {name for name, gateway in house.gateways.items() if isinstance(gateway, Disputes)}
    return office_page(
        "disputes.html",
        session=session,
        here="disputes",
        lines=await _lines(house, is_all=is_all, limit=MOST_SHOWN),
        most=MOST_SHOWN,
        is_all=is_all,
        answerable=answerable,
        money=Money,
        told=_told(request),
    )


@get("/disputes.csv")
async def export_disputes(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """All disputes, as far as a file holds them."""
    session = await at_desk(request, house)
    require(session.staff, "payments.review")
    lines = await _lines(house, is_all=True, limit=EXPORT_LINES)
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


async def _lines(house: House, *, is_all: bool, limit: int) -> list[DisputeLine]:
    async with house.db.reader() as reader:
        return await dispute_reads.lines(reader, states=list(TRANSITIONS), is_waiting=not is_all, limit=limit)


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
