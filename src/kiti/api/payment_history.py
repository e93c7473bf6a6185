"""What has become of a payment, step by step, for staff who may see payments: those of an operator see their own."""

from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, get

from kiti.api import wire
from kiti.api.access import staff_of
from kiti.api.auth import STAFF_ONLY
from kiti.flows.house import House
from kiti.flows.payment_story import history_of, refund_history_of
from kiti.payments.model import RefundStep, Step


class StepShape(wire.Shape, frozen=True):
    """A change of state and why; the first one is from `NEW`. States are those of the system, see `docs/states.md`."""

    at: datetime
    from_state: str
    to_state: str
    reason: str


class PaymentHistoryShape(wire.Shape, frozen=True):
    """The first step first."""

    payment_id: UUID
    steps: list[StepShape]


class PaymentHistories(Controller):
    """`/api/payments/{id}/history`."""

    path = "/api/payments"
    tags = ("Pay",)
    security = STAFF_ONLY

    @get("/{payment_id:uuid}/history", summary="Every step of a payment")
    async def show(
        self, house: House, request: Request[Any, Any, Any], payment_id: UUID
    ) -> Response[PaymentHistoryShape]:
        """For staff who may see payments, of bookings with seats of their operator."""
        staff = await staff_of(request, house)
        steps = await history_of(house, staff=staff, payment=payment_id)
        shape = PaymentHistoryShape(
            payment_id=payment_id,
            steps=[_shape(step) for step in steps],
        )
        return Response(shape, headers={"Cache-Control": "no-store"})


class RefundHistoryShape(wire.Shape, frozen=True):
    """The first step first."""

    refund_id: UUID
    steps: list[StepShape]


class RefundHistories(Controller):
    """`/api/refunds/{id}/history`."""

    path = "/api/refunds"
    tags = ("Pay",)
    security = STAFF_ONLY

    @get("/{refund_id:uuid}/history", summary="Every step of a refund")
    async def show(
        self, house: House, request: Request[Any, Any, Any], refund_id: UUID
    ) -> Response[RefundHistoryShape]:
        """For staff who may see refunds, of bookings with seats of their operator."""
        staff = await staff_of(request, house)
        steps = await refund_history_of(house, staff=staff, refund=refund_id)
        shape = RefundHistoryShape(refund_id=refund_id, steps=[_shape(step) for step in steps])
        return Response(shape, headers={"Cache-Control": "no-store"})


def _shape(step: Step | RefundStep) -> StepShape:
    return StepShape(at=step.at, from_state=step.from_state.upper(), to_state=step.to_state.upper(), reason=step.reason)
