import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from tests.box import Box

from kiti.core.errors import NotFound
from kiti.core.ids import new_id
from kiti.db import Query, Transaction, load
from kiti.tickets import actions, pdf, reads, signing
from kiti.tickets.actions import NothingToTicket, TicketNotValid
from kiti.tickets.model import AlreadyUsed, Ticket, TicketState, Unknown, Valid, Verdict, Voided, WrongTrip
from kiti.tickets.signing import SigningKey

SECRET = "a long random value"
DEPARTURE = datetime(2026, 3, 3, 18, 30, tzinfo=UTC)


class World(msgspec.Struct, kw_only=True):
    """A confirmed return journey: seats 1A and 1B out, 1A back."""

    box: Box
    booking: UUID
    out: UUID
    back: UUID
    key: SigningKey
    tickets: list[Ticket]

    async def scan(self, token_or_code: str, *, trip: UUID | None = None, where: str = "Gate 1") -> Verdict:
        return await self._scan(token_or_code, trip=trip or self.out, where=where)

    async def scan_any(self, token_or_code: str) -> Verdict:
        return await self._scan(token_or_code, trip=None, where="Gate 1")

    async def _scan(self, token_or_code: str, *, trip: UUID | None, where: str) -> Verdict:
        async with self.box.db.transaction() as tx:
            return await actions.verify_and_use(
                tx,
                token_or_code=token_or_code,
                trip=trip,
                where=where,
                keys=await reads.public_keys(tx),
            )


@pytest.fixture
async def world(box: Box) -> World:
    booking = new_id()
    out, back = await _catalogue(box)
    await _booking(box, booking, "K7MPQR", "confirmed")
    await _seat(box, booking, out, "1B", position=1, name="Baraka Otieno")
    await _seat(box, booking, out, "1A", position=0, name="Amina Nakato")
    await _seat(box, booking, back, "1A", position=2, name="Amina Nakato")
    async with box.db.transaction() as tx:
        key = await actions.ensure_key(tx, secret=SECRET)
        tickets = await actions.issue(tx, booking=booking, key=key)
    return World(box=box, booking=booking, out=out, back=back, key=key, tickets=tickets)


async def test_every_seat_of_a_booking_gets_one_signed_ticket(world: World) -> None:
    assert [(ticket.trip_id, ticket.seat) for ticket in world.tickets] == [
        (world.out, "1A"),
        (world.out, "1B"),
        (world.back, "1A"),
    ]
    async with world.box.db.reader() as reader:
        keys = await reads.public_keys(reader)
    for ticket in world.tickets:
        assert ticket.state is TicketState.VALID
        claims = signing.verify(ticket.token, keys=keys)
        assert (claims.ticket, claims.booking, claims.trip) == (ticket.id, world.booking, ticket.trip_id)
        assert (claims.seat, claims.from_code, claims.to_code) == (ticket.seat, "KLA", "KGL")
    first = signing.verify(world.tickets[0].token, keys=keys)
    assert (first.departs_at, first.initials) == (int(DEPARTURE.timestamp()), "AN")


async def test_issuing_again_gives_the_same_tickets(world: World) -> None:
    async with world.box.db.transaction() as tx:
        again = await actions.issue(tx, booking=world.booking, key=world.key)
    assert again == world.tickets


async def test_issuing_twice_at_once_gives_each_seat_one_ticket(world: World) -> None:
    booking = new_id()
    await _booking(world.box, booking, "ABCDEF", "confirmed")
    await _seat(world.box, booking, world.out, "2A", position=0, name="")

    async def issue(tx: Transaction) -> list[Ticket]:
        return await actions.issue(tx, booking=booking, key=world.key)

    results = await asyncio.gather(*(world.box.db.run(issue) for _ in range(6)))
    assert all(result == results[0] for result in results)
    assert len(results[0]) == 1


@pytest.mark.parametrize("state", ["held", "awaiting_payment", "expired", "cancelled"])
async def test_an_unconfirmed_booking_gets_no_ticket(world: World, state: str) -> None:
    booking = new_id()
    await _booking(world.box, booking, "ABCDEF", state)
    await _seat(world.box, booking, world.out, "2A", position=0, name="")
    async with world.box.db.transaction() as tx:
        with pytest.raises(NothingToTicket):
            await actions.issue(tx, booking=booking, key=world.key)


async def test_processes_that_start_together_make_one_key(box: Box) -> None:
    async def ensure(tx: Transaction) -> SigningKey:
        return await actions.ensure_key(tx, secret=SECRET)

    keys = await asyncio.gather(*(box.db.run(ensure) for _ in range(8)))
    assert len({key.kid for key in keys}) == 1
    assert await box.value("SELECT count(*) FROM ticket_key") == 1


async def test_a_changed_secret_makes_a_new_key_and_old_tickets_stay_good(world: World) -> None:
    async with world.box.db.transaction() as tx:
        new = await actions.ensure_key(tx, secret="another long value")
        same = await actions.ensure_key(tx, secret=SECRET)
    assert new.kid != world.key.kid
    assert same.kid == world.key.kid
    assert isinstance(await world.scan(world.tickets[0].token), Valid)


async def test_the_private_key_is_not_readable_in_the_database(world: World) -> None:
    stored = await world.box.value("SELECT private_key FROM ticket_key")
    scalar = world.key.private.private_numbers().private_value.to_bytes(32)
    assert scalar not in bytes(stored)


async def test_a_ticket_boards_once(world: World) -> None:
    first = await world.scan(world.tickets[0].token, where="Gate 1")
    assert isinstance(first, Valid)
    assert first.ticket.state is TicketState.USED
    second = await world.scan(world.tickets[0].token, where="Gate 2")
    assert isinstance(second, AlreadyUsed)
    assert (second.where, second.at) == ("Gate 1", first.ticket.used_at)


async def test_of_many_scans_at_once_one_is_told_valid(world: World) -> None:
    token = world.tickets[0].token
    verdicts = await asyncio.gather(*(world.scan(token, where=f"Gate {gate}") for gate in range(10)))
    valid = [verdict for verdict in verdicts if isinstance(verdict, Valid)]
    used = [verdict for verdict in verdicts if isinstance(verdict, AlreadyUsed)]
    assert (len(valid), len(used)) == (1, 9)
    assert {verdict.where for verdict in used} == {valid[0].ticket.used_where}


@pytest.mark.parametrize("typed", ["K7MPQR-1A", "k7mpqr 1a", " K7MPQR1A\n", "K7MPQR - 1A"])
async def test_an_inspector_can_type_the_code(world: World, typed: str) -> None:
    verdict = await world.scan(typed)
    assert isinstance(verdict, Valid)
    assert verdict.ticket.id == world.tickets[0].id


async def test_a_typed_code_means_the_inspectors_own_trip(world: World) -> None:
    verdict = await world.scan("K7MPQR-1A", trip=world.back)
    assert isinstance(verdict, Valid)
    assert verdict.ticket.id == world.tickets[2].id


async def test_without_a_trip_a_code_means_the_departure_nearest_to_now(world: World) -> None:
    seconds = await world.box.value(
        "SELECT extract(epoch FROM %s::timestamptz - statement_timestamp())", DEPARTURE + timedelta(days=1)
    )
    await world.box.travel(seconds=float(seconds))
    first, second = await world.scan_any("K7MPQR-1A"), await world.scan_any("K7MPQR-1A")
    assert isinstance(first, Valid)
    assert first.ticket.trip_id == world.back
    assert isinstance(second, AlreadyUsed)


async def test_without_a_trip_every_signed_ticket_is_taken(world: World) -> None:
    for ticket in world.tickets:
        assert isinstance(await world.scan_any(ticket.token), Valid)


async def test_a_ticket_for_another_trip_is_not_used_up(world: World) -> None:
    for shown in (world.tickets[1].token, "K7MPQR-1B"):
        verdict = await world.scan(shown, trip=world.back)
        assert isinstance(verdict, WrongTrip)
        assert verdict.ticket.trip_id == world.out
    assert isinstance(await world.scan(world.tickets[1].token), Valid)


async def test_a_void_ticket_says_why(world: World) -> None:
    async with world.box.db.transaction() as tx:
        voided = await actions.void(tx, booking=world.booking, reason="refunded")
        assert await actions.void(tx, booking=world.booking, reason="again") == []
    assert len(voided) == 3
    verdict = await world.scan(world.tickets[0].token)
    assert isinstance(verdict, Voided)
    assert verdict.reason == "refunded"


async def test_voiding_one_trip_leaves_the_way_back(world: World) -> None:
    async with world.box.db.transaction() as tx:
        voided = await actions.void(tx, booking=world.booking, reason="trip cancelled", trip=world.out)
    assert {ticket.seat for ticket in voided} == {"1A", "1B"}
    assert isinstance(await world.scan("K7MPQR-1A", trip=world.back), Valid)


async def test_a_used_ticket_is_never_voided(world: World) -> None:
    await world.scan(world.tickets[0].token)
    async with world.box.db.transaction() as tx:
        voided = await actions.void(tx, booking=world.booking, reason="refunded")
    assert world.tickets[0].id not in {ticket.id for ticket in voided}
    assert isinstance(await world.scan(world.tickets[0].token), AlreadyUsed)


async def test_a_voided_ticket_of_a_seat_given_up_is_still_known(world: World) -> None:
    async with world.box.db.transaction() as tx:
        await actions.void(tx, booking=world.booking, reason="seat changed")
    await world.box.rows("DELETE FROM booking_seat WHERE booking_id = %s AND seat = '1B'", world.booking)
    assert isinstance(await world.scan(world.tickets[1].token), Voided)


async def test_marking_a_spent_or_missing_ticket_is_refused(world: World) -> None:
    ticket = world.tickets[0]
    async with world.box.db.transaction() as tx:
        await actions.mark_used(tx, booking=world.booking, ticket=ticket.id, where="Gate 1")
        with pytest.raises(TicketNotValid) as refused:
            await actions.mark_used(tx, booking=world.booking, ticket=ticket.id, where="Gate 2")
        with pytest.raises(NotFound):
            await actions.mark_used(tx, booking=world.booking, ticket=uuid4(), where="Gate 1")
    assert refused.value.state is TicketState.USED


async def test_what_is_no_ticket_of_ours_is_unknown(world: World) -> None:
    stranger = signing.new_key()
    ours = world.tickets[0]
    claims = signing.verify(ours.token, keys={world.key.kid: world.key.public})
    unissued = signing.sign(msgspec.structs.replace(claims, ticket=new_id()), key=world.key)
    assert await world.scan(signing.sign(claims, key=stranger)) == Unknown("forged")
    assert await world.scan(unissued) == Unknown("not_found")
    assert await world.scan("K7MPQR-9Z") == Unknown("not_found")
    assert await world.scan("ZZZZZZ-1A") == Unknown("not_found")
    for nonsense in ("", "hello", "https://example.com/a.b.c", "\x00", "x" * 5000):
        assert await world.scan(nonsense) == Unknown("malformed")


async def test_a_look_at_a_ticket_does_not_use_it(world: World) -> None:
    async with world.box.db.reader() as reader:
        keys = await reads.public_keys(reader)
        for _ in range(2):
            verdict = await reads.verify(reader, token_or_code="K7MPQR-1A", trip=world.out, keys=keys)
            assert isinstance(verdict, Valid)
            assert verdict.ticket.state is TicketState.VALID


async def test_a_ticket_page_has_all_that_is_printed(world: World) -> None:
    async with world.box.db.reader() as reader:
        pages = await reads.pages(reader, booking=world.booking)
        one = await reads.page(reader, booking=world.booking, ticket=world.tickets[1].id)
        assert await reads.page(reader, booking=world.booking, ticket=uuid4()) is None
    assert [page.code for page in pages] == ["K7MPQR-1A", "K7MPQR-1B", "K7MPQR-1A"]
    assert one == pages[1]
    first = pages[0]
    assert (first.passenger_name, first.operator_name, first.support_phone) == (
        "Amina Nakato",
        "Pearl Coaches",
        "+256700000000",
    )
    assert (first.from_city, first.to_city, first.vehicle_registration) == ("Kampala", "Kigali", "UBA 123X")
    assert (first.seat_class, first.deck, first.deck_count) == ("standard", 1, 2)
    assert (f"{first.departure:%H:%M}", f"{first.arrival:%H:%M}") == ("21:30", "06:30")
    assert first.price.format("en") == "UGX\u00a065,000"
    drawn = await asyncio.to_thread(pdf.render, pages, locale=first.language)
    assert drawn.startswith(b"%PDF-")


async def test_every_named_query_is_one_that_postgresql_understands(box: Box) -> None:
    async with box.db.reader() as reader:
        for query in load("kiti.tickets"):
            await reader.connection.execute(f"PREPARE checked AS {_numbered(query)}")
            await reader.connection.execute("DEALLOCATE checked")


def _numbered(query: Query) -> str:
    names: list[str] = []
    text = query.text
    while "%(" in text:
        name = text.partition("%(")[2].partition(")s")[0]
        names.append(name)
        text = text.replace(f"%({name})s", f"${len(names)}")
    return text


async def _catalogue(box: Box) -> tuple[UUID, UUID]:
    """An operator with a two-deck coach, and two trips Kampala to Kigali, a day apart."""
    operator, layout, vehicle, route, schedule = (new_id() for _ in range(5))
    stops = [new_id(), new_id()]
    await box.rows(
        "INSERT INTO operator (id, code, name, country, timezone, support_phone)"
        " VALUES (%s, 'pearl', 'Pearl Coaches', 'UG', 'Africa/Kampala', '+256700000000')",
        operator,
    )
    for stop, code, city, country, zone in (
        (stops[0], "KLA", "Kampala", "UG", "Africa/Kampala"),
        (stops[1], "KGL", "Kigali", "RW", "Africa/Kigali"),
    ):
        await box.rows(
            "INSERT INTO stop (id, code, name, city, country, latitude, longitude, timezone, search_key)"
            " VALUES (%s, %s, %s, %s, %s, 0, 32, %s, %s)",
            *(stop, code, f"{city} Terminal", city, country, zone, city.lower()),
        )
    await box.rows("INSERT INTO layout VALUES (%s, %s, 'Coach', 4)", layout, operator)
    for place, (number, deck) in enumerate((("1A", 1), ("1B", 1), ("2A", 2), ("2B", 2))):
        await box.rows(
            "INSERT INTO layout_seat VALUES (%s, %s, %s, 0, %s, 'standard', true, false, false)",
            *(layout, number, deck, place),
        )
    await box.rows("INSERT INTO vehicle VALUES (%s, %s, %s, 'bus', 'Coach 4', 'UBA 123X')", vehicle, operator, layout)
    await box.rows("INSERT INTO route VALUES (%s, %s, 'KLA-KGL', 'Kampala to Kigali')", route, operator)
    await box.rows(
        "INSERT INTO schedule VALUES (%s, %s, %s, %s, '21:30', 127, '2026-01-01', '2026-12-31')",
        *(schedule, operator, route, vehicle),
    )
    trips = []
    for days in (0, 1):
        trip, departs = new_id(), DEPARTURE + timedelta(days=days)
        arrives = departs + timedelta(hours=10)
        await box.rows(
            "INSERT INTO trip (id, schedule_id, service_date, operator_id, route_id, vehicle_id, layout_id,"
            " departs_at, arrives_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(trip, schedule, departs.date(), operator, route, vehicle, layout, departs, arrives),
        )
        for seq, at in enumerate((departs, arrives)):
            await box.rows(
                "INSERT INTO trip_stop VALUES (%s, %s, %s, %s, %s, %s, %s)",
                *(trip, seq, route, stops[seq], at, at, at.date()),
            )
        trips.append(trip)
    return trips[0], trips[1]


async def _booking(box: Box, booking: UUID, reference: str, state: str) -> None:
    await box.rows(
        "INSERT INTO booking (id, reference, state, currency, amount, created_at, hold_until, hold_expires_at,"
        " hold_cap_at, confirmed_at) VALUES (%s, %s, %s, 'UGX', 65000, now(), now(), now(), now(), now())",
        *(booking, reference, state),
    )
    await box.rows("INSERT INTO booking_reference (reference, booking_id) VALUES (%s, %s)", reference, booking)


async def _seat(box: Box, booking: UUID, trip: UUID, seat: str, *, position: int, name: str) -> None:
    await box.rows(
        "INSERT INTO booking_seat (booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare,"
        " passenger_name) SELECT %s, trip.id, %s, 0, 1, %s, trip.operator_id, 'standard', 65000, %s"
        " FROM trip WHERE trip.id = %s",
        *(booking, seat, position, name, trip),
    )
