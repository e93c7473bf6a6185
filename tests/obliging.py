"""A gateway in this process with which everybody pays: for tests of what happens to the money afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec

from kiti.app import open_house
from kiti.core.money import Money
from kiti.core.settings import load
from kiti.flows.house import House
from kiti.gateways.flutterwave import Flutterwave
from kiti.gateways.gateway import Captured, CheckoutOpened, CheckoutRequest, Missing, Truth

NOWHERE = "http://127.0.0.1:9/v3"


class Obliging(Flutterwave):
    """Whatever it was asked to take it has taken, at once and in full; while `silent` it knows of nothing."""

    def __init__(self) -> None:
        super().__init__(base_url=NOWHERE, secret_key="none", webhook_hash="none")
        self.asked: dict[str, Money] = {}
        self.silent = False

    async def open_checkout(self, request: CheckoutRequest) -> CheckoutOpened:
        self.asked[request.reference] = request.amount
        return CheckoutOpened(url=f"https://pay.example/{request.reference}")

    async def close_checkout(self, url: str) -> bool:
        return url.endswith(tuple(self.asked))

    async def lookup(self, reference: str) -> Truth:
        return Missing() if self.silent else self.truth(reference)

    async def verify(self, transaction_id: str) -> Truth:
        return self.truth(transaction_id.removeprefix("t-"))

    def truth(self, reference: str, *, excess: int = 0, transaction: str = "") -> Captured:
        """What was asked for, and `excess` minor units more."""
        asked = self.asked[reference]
        return Captured(
            transaction_id=transaction or f"t-{reference}",
            reference=reference,
            amount=Money(asked.amount + excess, asked.currency),
            fee_exact=Decimal("12.5"),
        )


def with_gateway(house: House, gateway: Obliging) -> House:
    """The same house with this gateway instead of its own."""
    return msgspec.structs.replace(house, gateways={"flutterwave": gateway})


@asynccontextmanager
async def another_house(url: str, gateway: Obliging) -> AsyncIterator[House]:
    """A second process's worth of pools and queues on the same database."""
    settings = load({"KITI_DEMO": "1", "DATABASE_URL": url, "FLUTTERWAVE_BASE_URL": NOWHERE})
    async with open_house(settings) as house:
        yield with_gateway(house, gateway)
