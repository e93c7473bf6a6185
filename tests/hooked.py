"""A house in this process that tells integrators on loopback: bookings, endpoints, and what became of deliveries."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec

from kiti.app import open_house
from kiti.core.settings import load
from kiti.flows.announce import announce, of_booking
from kiti.flows.deliver_hooks import Delivered, deliver_due
from kiti.flows.hooks import Made, add_endpoint
from kiti.flows.house import House
from kiti.gateways.hooks import Caller
from kiti.hooks.model import EVENT_TYPES
from tests.network import Network
from tests.office import Office


class Desk(Office):
    """An office with endpoints."""

    async def add(self, url: str, *types: str, operator: str | None = None) -> Made:
        """An endpoint of the platform, or of an operator."""
        return await add_endpoint(self.house, url=url, event_types=types or EVENT_TYPES, operator_code=operator)

    async def tell(self, *bookings: UUID) -> None:
        """Announce that these bookings are confirmed."""
        async with self.box.db.transaction() as tx:
            await announce(tx, *(of_booking("booking.confirmed", booking) for booking in bookings))

    async def deliver(self) -> Delivered:
        """One pass."""
        return await deliver_due(self.house)

    async def forget_endpoints(self) -> None:
        """As if there had never been any; and back to today."""
        for table in ("hook_event", "webhook_endpoint"):
            await self.box.rows(f"DELETE FROM {table}")
        await self.box.travel(seconds=-self.box.travelled_seconds)

    async def due_now(self) -> None:
        """Let every wait be over."""
        await self.box.rows("UPDATE hook_delivery SET act_after = kiti_now() WHERE state = 'pending'")

    async def rows(self, endpoint: UUID | None = None) -> Sequence[dict[str, Any]]:
        """Deliveries, in the order of their events."""
        return await self.box.rows(
            "SELECT *, act_after - kiti_now() AS wait FROM hook_delivery"
            " WHERE %s::uuid IS NULL OR endpoint_id = %s ORDER BY event_id, endpoint_id, round",
            endpoint,
            endpoint,
        )

    async def endpoint(self, endpoint: UUID) -> dict[str, Any]:
        return (await self.box.rows("SELECT * FROM webhook_endpoint WHERE id = %s", endpoint))[0]


async def sold(desk: Desk, *seats: str) -> UUID:
    return (await desk.sell(desk.network.bus(), *(seats or ("1A",)))).booking


async def many_events(desk: Desk, number: int) -> UUID:
    """So many events of one booking."""
    booking = await sold(desk)
    await desk.tell(*[booking] * number)
    return booking


def calling(house: House, caller: Caller) -> House:
    """The same house with another way out."""
    return msgspec.structs.replace(house, caller=caller)


@asynccontextmanager
async def open_desk(url: str, **environment: str) -> AsyncIterator[Desk]:
    """On a fresh database."""
    settings = load(
        {
            "KITI_DEMO": "1",
            "KITI_HOOKS_ALLOW_PRIVATE": "1",
            "DATABASE_URL": url,
            "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3",
            **environment,
        }
    )
    async with open_house(settings) as house:
        yield Desk(house, await Network().build(house.db))
