"""A gateway that tells of refunds which may be ours or not: nobody is paid back twice because of it, a person looks."""

from collections.abc import AsyncIterator
from decimal import Decimal
from uuid import UUID

import pytest
from tests.box import Box
from tests.network import STANDARD_UGX, Network
from tests.obliging import Obliging, another_house

from kiti.flows.checkout import Intent, initiate
from kiti.flows.house import House
from kiti.flows.plan import Item, Reservation
from kiti.flows.refunds import IN_FLIGHT_SECONDS, process_refund
from kiti.flows.reserve import reserve
from kiti.flows.settle import settle_payment
from kiti.flows.staff_refunds import refund_payment
from kiti.gateways.gateway import GatewayRefund, RefundRequest, RefundStatus, Rejected, Unknown
from kiti.payments.model import Refund
from kiti.people.model import Staff

FINANCE = Staff(id=UUID(int=2), email="f@kiti.example", name="Grace", role="platform_finance", operator=None)


class Strange(Obliging):
    """Answers a request for a refund as it was told to, and lists what it was told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[GatewayRefund | Rejected | Unknown] = []
        self.listed: list[GatewayRefund] = []
        self.requests: list[RefundRequest] = []

    async def refund(self, request: RefundRequest) -> GatewayRefund | Rejected | Unknown:
        self.requests.append(request)
        return self.answers.pop(0)

    async def list_refunds(self, transaction_id: str) -> list[GatewayRefund] | Unknown:
        return [refund for refund in self.listed if refund.transaction_id == transaction_id]


class Desk:
    """A house with that gateway."""

    def __init__(self, house: House, gateway: Strange, trips: Network) -> None:
        self.house = house
        self.gateway = gateway
        self.network = trips
        self.box = Box(house.db)

    async def asked_back(self) -> Refund:
        """A refund of all that a traveller paid, of which the gateway has not heard."""
        item = Item(trip=self.network.bus(), seats=("1A",))
        booking = (await reserve(self.house, Reservation(items=(item,)))).booking
        payment = (await initiate(self.house, Intent(booking=booking))).payment.id
        await settle_payment(self.house, payment)
        return await refund_payment(self.house, payment=payment, amount=None, reason="Because.", staff=FINANCE)

    async def paid_back(self, refund: Refund) -> bool:
        """Whether our books say that the traveller has it."""
        event = f"refund_done:{refund.id}"
        return bool(await self.box.value("SELECT count(*) FROM transfer WHERE event = %s", event))


@pytest.fixture
async def desk(box: Box, fresh_url: str) -> AsyncIterator[Desk]:
    trips = await Network().build(box.db)
    gateway = Strange()
    async with another_house(fresh_url, gateway) as house:
        yield Desk(house, gateway, trips)


def told(
    refund: Refund, *, amount: int = STANDARD_UGX, reference: str | None = None, status: RefundStatus = "pending"
) -> GatewayRefund:
    return GatewayRefund(
        refund_id="R1",
        transaction_id=refund.transaction_id,
        reference=str(refund.id) if reference is None else reference,
        amount_exact=Decimal(amount),
        status=status,
        failure_reason="",
    )


async def test_one_without_a_reference_that_may_be_ours_is_compared_by_a_person_and_not_asked_for_again(
    desk: Desk,
) -> None:
    refund = await desk.asked_back()
    desk.gateway.answers = [Unknown(reason="the line was cut")]
    assert (await process_refund(desk.house, refund.id)).state == "unknown"
    desk.gateway.listed = [told(refund, reference="")]
    await desk.box.travel(seconds=IN_FLIGHT_SECONDS + 1)
    assert (await process_refund(desk.house, refund.id)).state == "needs_attention"
    assert len(desk.gateway.requests) == 1


@pytest.mark.parametrize(
    "other",
    [{"reference": "", "amount": 1}, {"reference": "", "status": "failed"}, {"reference": "somebody else's"}],
    ids=["another amount", "failed", "somebody else's"],
)
async def test_one_that_cannot_be_ours_keeps_nobody_waiting(desk: Desk, other: dict[str, object]) -> None:
    refund = await desk.asked_back()
    desk.gateway.answers = [Unknown(reason="the line was cut"), told(refund, status="succeeded")]
    await process_refund(desk.house, refund.id)
    desk.gateway.listed = [told(refund, **other)]  # type: ignore[arg-type]
    await desk.box.travel(seconds=IN_FLIGHT_SECONDS + 1)
    assert (await process_refund(desk.house, refund.id)).state == "succeeded"
    assert len(desk.gateway.requests) == 2
    assert await desk.paid_back(refund)


@pytest.mark.parametrize("status", ["pending", "succeeded"])
async def test_one_of_another_amount_is_for_a_person(desk: Desk, status: RefundStatus) -> None:
    refund = await desk.asked_back()
    desk.gateway.answers = [told(refund, amount=STANDARD_UGX - 1, status=status)]
    stands = await process_refund(desk.house, refund.id)
    assert stands.state == "needs_attention"
    assert stands.failure_reason == (
        f"The gateway refunded {STANDARD_UGX - 1} instead of {STANDARD_UGX} UGX (minor units)."
    )
    assert not await desk.paid_back(refund)
