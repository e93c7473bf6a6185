"""The routes of v4 about what the merchant gets in the end: settlements and chargebacks.

Shapes: Flutterwave's v4 reference, "Settlement" and "Chargebacks". Of `refund`, `chargeback` and `charge_count` the
reference shows strings; a chargeback tells no currency, and a charge within a settlement not our reference.
"""

from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, get, put
from litestar.handlers import HTTPRouteHandler

from kiti.simulator import settlements
from kiti.simulator.api import body_of, machine_of
from kiti.simulator.machine import GatewayRefusalError, Machine
from kiti.simulator.store import Row
from kiti.simulator.v4 import wire
from kiti.simulator.v4.api import NO_CHARGE, answer, page_of

AnyRequest = Request[Any, Any, Any]

ACTIONS: Final[dict[str, Literal["accept", "decline"]]] = {"accepted": "accept", "declined": "decline"}


class ChargebackUpdate(msgspec.Struct):
    """The body of `PUT /chargebacks/{id}`, as far as it is simulated."""

    status: Literal["accepted", "declined"]
    comment: str | None = None
    uploaded_proof: str | None = None


@get("/v4/settlements")
async def list_settlements(request: AnyRequest) -> Response[bytes]:
    """List settlements, newest first."""
    machine = machine_of(request)
    where = " FROM settlement WHERE version = 'v4' AND created_at >= ?1 AND created_at <= ?2"
    return page_of(request, where, shape=lambda row: _settlement(machine, row), message="Settlements fetched")


@get("/v4/settlements/{identity:str}")
async def get_settlement(request: AnyRequest, identity: str) -> Response[bytes]:
    """Answer one settlement."""
    machine, number = machine_of(request), wire.number_of(identity, "stm")
    row = machine.store.one("SELECT * FROM settlement WHERE id = ? AND version = 'v4'", number)
    if row is None:
        raise GatewayRefusalError(NO_CHARGE, http_status=404)
    return answer(_settlement(machine, row), message="Settlement fetched")


@get("/v4/chargebacks")
async def list_chargebacks(request: AnyRequest) -> Response[bytes]:
    """List chargebacks, newest first."""
    where = " FROM chargeback WHERE tx_id IN (SELECT id FROM tx WHERE version = 'v4')"
    where += " AND created_at >= ?1 AND created_at <= ?2"
    return page_of(request, where, shape=wire.chargeback, message="Chargebacks fetched")


@get("/v4/chargebacks/{identity:str}")
async def get_chargeback(request: AnyRequest, identity: str) -> Response[bytes]:
    """Answer one chargeback."""
    return answer(wire.chargeback(_known(machine_of(request), identity)), message="Chargeback fetched")


@put("/v4/chargebacks/{identity:str}")
async def update_chargeback(request: AnyRequest, identity: str) -> Response[bytes]:
    """Accept or decline a chargeback."""
    machine = machine_of(request)
    wanted = await body_of(request, ChargebackUpdate)
    row = settlements.answer_chargeback(
        machine,
        chargeback_id=_known(machine, identity)["id"],
        answer=settlements.ChargebackAnswer(
            action=ACTIONS[wanted.status], comment=wanted.comment, prooflink=wanted.uploaded_proof
        ),
    )
    return answer(wire.chargeback(row), message="Chargeback updated")


ROUTES: Final[list[HTTPRouteHandler]] = [
    list_settlements,
    get_settlement,
    list_chargebacks,
    get_chargeback,
    update_chargeback,
]


def _known(machine: Machine, identity: str) -> Row:
    number = wire.number_of(identity, "cbk")
    row = machine.store.one(
        "SELECT * FROM chargeback WHERE id = ? AND tx_id IN (SELECT id FROM tx WHERE version = 'v4')", number
    )
    if row is None:
        raise GatewayRefusalError(NO_CHARGE, http_status=404)
    return row


def _settlement(machine: Machine, row: Row) -> dict[str, Any]:
    return wire.settlement(row, settlements.settled_transactions(machine, settlement_id=row["id"]))
