"""A house in this process with a network to sell: what bookings can be brought to without a gateway."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from kiti.app import open_house
from kiti.bookings import actions as bookings
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import BookedSeat, Contact
from kiti.core.errors import KitiError
from kiti.core.settings import load
from kiti.flows.changes import move_booking, swap_seats
from kiti.flows.holds import wants_of
from kiti.flows.house import House
from kiti.flows.inspect import inspect
from kiti.flows.plan import Item, Passenger, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.wellbeing import examine
from kiti.people.model import Staff
from kiti.seats import actions as seats
from kiti.tickets import actions as tickets
from kiti.tickets import reads as ticket_reads
from kiti.tickets.model import Ticket, TicketState, Verdict
from tests.box import Box
from tests.network import FEW_DAYS, Network

INSPECTOR = Staff(id=UUID(int=1), email="door@kiti.example", name="Door", role="platform_admin", operator=None)
EVERYTHING = {
    "booking": "id",
    "booking_seat": "booking_id, trip_id, seat",
    "seat_claim": "trip_id, seat, leg",
    "ticket": "booking_id, id",
    "audit_event": "subject_id, id",
}


class Held(msgspec.Struct, frozen=True):
    """A booking as it was when it was made."""

    booking: UUID
    reference: str
    amount: int
    expires_at: datetime


class Office:
    """A house in this process, with a network; purchases need no gateway here."""

    def __init__(self, house: House, network: Network) -> None:
        self.house = house
        self.network = network
        self.box = Box(house.db)

    async def hold(self, trip: UUID, *chosen: str, minutes: int = 15, **more: Any) -> Held:
        return await self.hold_items(Item(trip=trip, seats=chosen, **more), minutes=minutes)

    async def hold_items(self, *items: Item, minutes: int = 15) -> Held:
        reservation = Reservation(
            items=items,
            hold_minutes=minutes,
            passengers=tuple(Passenger(name=name) for name in ("Amina", "Baraka", "Chandra")[: len(items[0].seats)]),
            contact=Contact(phone="+256772123456"),
        )
        reserved = await reserve(self.house, reservation)
        async with self.box.db.reader() as reader:
            made = await booking_reads.by_id(reader, booking=reserved.booking)
        return Held(made.id, made.reference, made.amount, made.hold_expires_at)

    async def sell(self, trip: UUID, *chosen: str, **more: Any) -> Held:
        held = await self.hold(trip, *chosen, **more)
        await self.confirm(held)
        return held

    async def confirm(self, held: Held) -> None:
        async with self.box.db.transaction() as tx:
            found = await bookings.lock(tx, booking=held.booking)
            await seats.confirm(tx, wants=wants_of(await booking_reads.seats_of(tx, bookings=[held.booking])))
            await bookings.move(tx, booking=found, to="confirmed")
            await tickets.issue(tx, booking=held.booking, key=self.house.ticket_key)

    async def swap(self, held: Held, swaps: Mapping[str, str], *, trip: UUID | None = None) -> list[BookedSeat]:
        """Old seats to new ones."""
        return await swap_seats(self.house, booking=held.booking, swaps=swaps, trip=trip, actor="test")

    async def move(
        self, held: Held, from_trip: UUID, to_trip: UUID, chosen: Sequence[str] | None = None
    ) -> list[BookedSeat]:
        return await move_booking(
            self.house,
            booking=held.booking,
            from_trip=from_trip,
            to_trip=to_trip,
            seats=chosen,
            reason="  The bus broke   down. ",
            actor="test",
        )

    async def owners(self, trip: UUID) -> dict[str, set[tuple[int, UUID, datetime | None]]]:
        rows = await self.box.rows(
            "SELECT seat, leg, owner_id, nullif(expires_at, 'infinity') AS until FROM seat_claim"
            " WHERE trip_id = %s AND expires_at > kiti_now() ORDER BY seat, leg",
            trip,
        )
        found: dict[str, set[tuple[int, UUID, datetime | None]]] = {}
        for row in rows:
            found.setdefault(row["seat"], set()).add((row["leg"], row["owner_id"], row["until"]))
        return found

    async def tickets(self, held: Held) -> dict[str, Ticket]:
        """The tickets that are not void, by seat."""
        async with self.box.db.reader() as reader:
            found = await ticket_reads.of_booking(reader, booking=held.booking)
        good = [ticket for ticket in found if ticket.state is not TicketState.VOID]
        assert len({(ticket.trip_id, ticket.seat) for ticket in good}) == len(good)
        return {ticket.seat: ticket for ticket in good}

    async def scan(self, scanned: str, *, trip: UUID | None = None, use: bool = False) -> Verdict:
        return await inspect(self.house, scanned=scanned, trip=trip, where="Gate 1", use=use, staff=INSPECTOR)

    async def everything(self) -> dict[str, list[dict[str, Any]]]:
        return {
            table: await self.box.rows(f"SELECT {table}::text AS row FROM {table} ORDER BY {key}")
            for table, key in EVERYTHING.items()
        }

    async def refuses(self, work: Any, error: type[KitiError]) -> KitiError:
        """What is asked for is refused, and nothing has changed."""
        before = await self.everything()
        with pytest.raises(error) as refusal:
            await work
        assert await self.everything() == before
        return refusal.value

    async def is_well(self) -> None:
        findings = [finding for finding in await examine(self.house) if not finding.ok]
        assert not findings, findings


@asynccontextmanager
async def open_office(url: str) -> AsyncIterator[Office]:
    """On a fresh database; in the end the doctor must find nothing."""
    settings = load({"KITI_DEMO": "1", "DATABASE_URL": url, "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3"})
    async with open_house(settings) as house:
        there = Office(house, await Network(days=FEW_DAYS).build(house.db))
        yield there
        await there.is_well()
