"""Statements, for staff who may see them: as JSON, CSV, XLSX and PDF. An operator's staff see their own only."""

from datetime import date, datetime
from typing import Annotated, Any, cast, get_args
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.params import QueryParameter

from kiti.api import wire
from kiti.api.access import staff_of
from kiti.api.auth import STAFF_ONLY
from kiti.core.errors import InvalidInput, NotFound
from kiti.flows.house import House
from kiti.flows.papers.statement import MEDIA_TYPES, statement_paper
from kiti.flows.settlements import list_settlements, show_statement
from kiti.settlements.model import Settlement, State, StatementLine

LARGEST_PAGE = 500
USUAL_PAGE = 50
USUAL_LINES = 200


class SettlementShape(wire.Shape, frozen=True):
    """What an operator earned in a period: `net` is gross - refunds - commission - fees + other + carried.

    `periodStart` and `periodEnd` are days of the operator's calendar, both included.
    """

    settlement_id: UUID
    operator_id: UUID
    operator: str
    period: str
    period_start: date
    period_end: date
    timezone: str
    status: str
    currency: str
    gross: int
    refunds: int
    commission: int
    fees: int
    other: int
    carried: int
    net: int
    made_at: datetime
    approved_at: datetime | None


class SettlementsShape(wire.Shape, frozen=True):
    """The newest first; `nextBefore` is the `before` of the page after."""

    settlements: list[SettlementShape]
    next_before: UUID | None


class SettlementLineShape(wire.Shape, frozen=True):
    """What a booking's part in a trip comes to, as the operator sees it: what is taken off is below zero."""

    booking_id: UUID
    reference: str
    trip_id: UUID | None
    route: str
    departs_at: datetime | None
    gross: int
    refunds: int
    commission: int
    fees: int
    other: int
    net: int


class SettlementDetailShape(SettlementShape, frozen=True):
    """With a page of its lines; `nextAfter` is the `after` of the page after."""

    lines: list[SettlementLineShape]
    next_after: str | None


class Settlements(Controller):
    """`/api/settlements`."""

    path = "/api/settlements"
    tags = ("Settlements",)
    security = STAFF_ONLY

    @get(summary="Statements")
    async def page(
        self,
        house: House,
        request: Request[Any, Any, Any],
        operator: Annotated[str, QueryParameter(max_length=32)] = "",
        status: Annotated[str, QueryParameter(max_length=20)] = "",
        since: date | None = None,
        until: date | None = None,
        before: UUID | None = None,
        limit: Annotated[int, QueryParameter(ge=1, le=LARGEST_PAGE)] = USUAL_PAGE,
    ) -> SettlementsShape:
        """All, or those of an `operator` (its code), in a `status`, of periods with a day from `since` to `until`."""
        staff = await staff_of(request, house)
        if status.lower() not in {"", *get_args(State)}:
            raise InvalidInput("status", f"There is {', '.join(state.upper() for state in get_args(State))}.")
        state = cast("State | None", status.lower() or None)
        if since is not None and until is not None and until < since:
            raise InvalidInput("since", "The first day comes first.")
        found = await list_settlements(
            house, staff=staff, code=operator, state=state, since=since, until=until, before=before, limit=limit
        )
        return SettlementsShape(
            settlements=[SettlementShape(**_told(one)) for one in found.settlements], next_before=found.next_before
        )

    @get("/{name:str}", summary="A statement, as JSON, CSV, XLSX or PDF")
    async def show(
        self,
        house: House,
        request: Request[Any, Any, Any],
        name: str,
        after: Annotated[str, QueryParameter(max_length=80)] = "",
        limit: Annotated[int, QueryParameter(ge=1, le=LARGEST_PAGE)] = USUAL_LINES,
    ) -> Response[Any]:
        """`{id}` with a page of its lines; `{id}.csv`, `{id}.xlsx` and `{id}.pdf` are whole."""
        staff = await staff_of(request, house)
        written, _, form = name.partition(".")
        settlement = _id(written)
        if form in MEDIA_TYPES:
            paper = await statement_paper(house, settlement=settlement, form=cast("Any", form), staff=staff)
            return Response(
                paper.body,
                media_type=paper.media_type,
                headers={"Content-Disposition": f'attachment; filename="{paper.name}"', "Cache-Control": "no-store"},
            )
        if form:
            raise NotFound(f"A statement comes as {', '.join(MEDIA_TYPES)} or as JSON.")
        found = await show_statement(house, settlement=settlement, staff=staff, after=_cursor(after), limit=limit)
        shape = SettlementDetailShape(
            **_told(found.settlement),
            lines=[_line(line) for line in found.lines],
            next_after=None if found.next_after is None else ":".join(map(str, found.next_after)),
        )
        return Response(shape, headers={"Cache-Control": "no-store"})


def _told(settlement: Settlement) -> dict[str, Any]:
    return {
        "settlement_id": settlement.id,
        "operator_id": settlement.operator_id,
        "operator": settlement.operator_code,
        "period": settlement.period.upper(),
        "period_start": settlement.first_day,
        "period_end": settlement.last_day,
        "timezone": settlement.timezone,
        "status": settlement.state.upper(),
        "currency": settlement.currency,
        "gross": settlement.gross,
        "refunds": settlement.refunds,
        "commission": settlement.commission,
        "fees": settlement.fees,
        "other": settlement.other,
        "carried": settlement.carried,
        "net": settlement.net,
        "made_at": settlement.made_at,
        "approved_at": settlement.approved_at,
    }


def _line(line: StatementLine) -> SettlementLineShape:
    return SettlementLineShape(
        booking_id=line.subject_id,
        reference=line.reference,
        trip_id=line.trip_id,
        route=line.route,
        departs_at=line.departs_at,
        gross=line.gross,
        refunds=line.refund,
        commission=line.commission,
        fees=line.fee,
        other=line.other,
        net=line.net,
    )


def _id(written: str) -> UUID:
    try:
        return UUID(written)
    except ValueError:
        raise NotFound("There is no such statement.") from None


def _cursor(after: str) -> tuple[UUID, UUID] | None:
    if not after:
        return None
    booking, _, trip = after.partition(":")
    try:
        return UUID(booking), UUID(trip)
    except ValueError:
        raise InvalidInput("after", "This page is not there. Start from the beginning.") from None
