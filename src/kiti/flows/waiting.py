"""On-sale rush: people wait in line, and only whose turn it is may reserve.

A place is good for one booking that counts, and for a bounded number of attempts: seats may be lost to others. Whoever
gives the booking back may make another one with the same place, for as long as the place is good.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import reads as booking_reads
from kiti.core.errors import InvalidInput, KitiError, NotFound
from kiti.core.ids import new_id
from kiti.db import Transaction
from kiti.flows import holds
from kiti.flows.commit import Reserved
from kiti.flows.house import House
from kiti.flows.idempotency import take_back
from kiti.flows.plan import Keyed, Reservation
from kiti.flows.reserve import reserve
from kiti.waiting import actions as waiting
from kiti.waiting import reads as waiting_reads
from kiti.waiting.model import PLACE_ATTEMPTS, Booked, NewRoom, Place, Room, Use, read_place

MAX_RATE_PER_SECOND = 10_000
MAX_BURST = 100_000
MAX_WINDOW_MINUTES = 24 * 60
MAX_NAME_LENGTH = 120
DEFAULT_WINDOW_MINUTES = 10
# Several places, for trips of several rooms, are joined by dots.
BETWEEN_PLACES = "."
MOST_PLACES = 8
PLACE_LENGTH = 96

PlaceStatus = Literal["WAITING", "ADMITTED", "EXPIRED"]


class NotAdmitted(KitiError):
    """It is not this one's turn; `retry_after_seconds` says when it may be."""

    def __init__(self, message: str, *, room: UUID, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.room = room
        self.retry_after_seconds = retry_after_seconds


class PlaceNeeded(NotAdmitted):
    """No place of this room came along."""


class PlaceNotYet(NotAdmitted):
    """The place is good, its time has not come."""


class PlaceSpent(NotAdmitted):
    """The place was good: its time is over, or it was used."""


class PlaceForged(KitiError):
    """What came along was not made by us."""


class NoWaitingRoom(NotFound):
    """The trip has no waiting room, or it is closed: nobody has to wait."""


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """The places with which a reservation may be made; none where nobody has to wait."""

    uses: tuple[Use, ...] = ()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a place stands: how many are ahead of it, and for how long still."""

    place: Place
    token: str
    status: PlaceStatus
    ahead: int
    wait_seconds: float


class RoomView(msgspec.Struct, frozen=True, kw_only=True):
    """An open room, how many places it has given out, and how many of those wait."""

    room: Room
    given: int
    waiting: int


FREE = Admission()


async def reserve_admitted(
    house: House, reservation: Reservation, *, place: str | None, keyed: Keyed | None = None
) -> Reserved:
    """Reserve where it is this one's turn; raises what `admit`, `reserve` and `note_booking` do."""
    admission = await admit(house, trips=[item.trip for item in reservation.items], place=place)
    reserved = await reserve(house, reservation, keyed=keyed)
    try:
        await note_booking(house, admission=admission, booking=reserved.booking)
    except PlaceSpent:
        if keyed is not None:  # the booking was given back, so nobody shall hear of it again
            await take_back(house, keyed.key)
        raise
    return reserved


async def admit(house: House, *, trips: Iterable[UUID], place: str | None, giving_up: UUID | None = None) -> Admission:
    """Let a reservation on these trips pass, and count it as an attempt. Without a room nothing is asked or written.

    `place` is one token, or several joined by dots. `giving_up` is a booking that this one takes the place of. Raises
    PlaceNeeded, PlaceNotYet, PlaceSpent, PlaceForged, Overloaded, DatabaseUnavailable.
    """
    rooms = await house.rooms.before(trips)
    if not rooms:
        return FREE
    places = [_place_for(house, room, place or "") for room in rooms]
    uses = [await _count(house, room, found, giving_up) for room, found in zip(rooms, places, strict=True)]
    return Admission(uses=tuple(uses))


async def note_booking(house: House, *, admission: Admission, booking: UUID) -> None:
    """Write down that a booking was made with its places; raises PlaceSpent where another one was made with them.

    That happens when a place is used twice at once: then this booking is given back.
    """
    for use in admission.uses:
        if not await house.rooms.note(Booked(use=use, booking=booking)):
            await holds.release(house, booking=booking, actor="waiting room")
            raise PlaceSpent("Something was booked with this place already.", room=use.room, retry_after_seconds=1)


async def take_place(house: House, *, trip: UUID) -> Standing:
    """The next place in the line before a trip; raises NoWaitingRoom, Overloaded, DatabaseUnavailable."""
    rooms = await house.rooms.before([trip])
    place = await house.rooms.take(rooms[0].id) if rooms else None
    if place is None:
        raise NoWaitingRoom("This trip has no waiting room. Reserve right away.")
    return _standing(house, rooms[0], place)


async def find_place(house: House, *, token: str) -> Standing:
    """How a place stands; raises PlaceForged, NoWaitingRoom, DatabaseUnavailable."""
    place = read_place(token, secret=house.settings.jwt_secret) if len(token) == PLACE_LENGTH else None
    if place is None:
        raise PlaceForged("This is no place of ours.")
    room = await house.rooms.of_place(place)
    if room is None:
        raise NoWaitingRoom("This waiting room is closed. Reserve right away.")
    return _standing(house, room, place)


async def place_before(house: House, *, trip: UUID, place: str) -> Standing | None:
    """How the place stands that somebody has in the line before a trip; None where they have none.

    `place` as for `admit`. Raises NoWaitingRoom, DatabaseUnavailable.
    """
    rooms = await house.rooms.before([trip])
    if not rooms:
        raise NoWaitingRoom("This trip has no waiting room. Reserve right away.")
    found = _own_place(house, rooms[0], _tokens(place))
    return None if found is None else _standing(house, rooms[0], found)


async def open_room(
    house: House,
    *,
    name: str,
    trips: Collection[UUID],
    rate_per_second: float,
    burst: int | None = None,
    window_minutes: int = DEFAULT_WINDOW_MINUTES,
    opens_at: datetime | None = None,
    actor: str,
) -> UUID:
    """Put trips behind a door, with one line for all of them; the room's id.

    So many people are admitted a second, and `burst` at once after a pause: as many as in one second if nothing is
    said. Each has `window_minutes` to reserve. Before `opens_at` people can take places, and nobody is admitted.
    Raises TripHasRoom, TooManyTrips, InvalidInput, NotFound.
    """
    if not 0 < rate_per_second <= MAX_RATE_PER_SECOND:
        raise InvalidInput("rate", f"From more than 0 to {MAX_RATE_PER_SECOND} people a second.")
    for trip in trips:
        await house.catalogue.trip(trip)
    room = NewRoom(
        id=new_id(),
        name=name.strip(),
        rate_per_second=rate_per_second,
        burst=max(1, math.ceil(rate_per_second)) if burst is None else burst,
        window_seconds=window_minutes * 60,
        opens_at=opens_at,
        trips=sorted(set(trips)),
    )
    _check(room)
    detail = msgspec.to_builtins(room)

    async def work(tx: Transaction) -> UUID:
        await waiting.open_room(tx, room=room)
        await audit.record(tx, events=[Event(subject=room.id, actor=actor, action="room.opened", detail=detail)])
        return room.id

    return await house.db.run(work)


async def close_room(house: House, *, room: UUID, actor: str) -> None:
    """Let everybody in; raises RoomNotOpen."""

    async def work(tx: Transaction) -> None:
        await waiting.close_room(tx, room=room)
        await audit.record(tx, events=[Event(subject=room, actor=actor, action="room.closed")])

    await house.db.run(work)


async def open_rooms(house: House) -> list[RoomView]:
    """Every open room."""
    async with house.db.reader() as reader:
        rooms = await waiting_reads.open_rooms(reader)
        now = await waiting_reads.now(reader)
    return [RoomView(room=room, given=room.next_number - 1, waiting=room.waiting(now)) for room in rooms]


def _place_for(house: House, room: Room, places: str) -> Place:
    """The place of this room, if it is good now."""
    tokens = _tokens(places)
    place = _own_place(house, room, tokens)
    now = house.rooms.now()
    if place is None:
        if any(read_place(token, secret=house.settings.jwt_secret) is None for token in tokens):
            raise PlaceForged("This is no place of ours.")
        raise PlaceNeeded(
            "Very many people want this trip. Take a place in its waiting room first.",
            room=room.id,
            retry_after_seconds=_whole_seconds(room.next_admission, now),
        )
    if place.admits_at > now:
        raise PlaceNotYet(
            f"Number {place.number} is not admitted yet. Wait for your turn.",
            room=room.id,
            retry_after_seconds=_whole_seconds(place.admits_at, now),
        )
    if place.expires_at <= now:
        raise _spent(room, now, f"The time of number {place.number} is over.")
    return place


async def _count(house: House, room: Room, place: Place, giving_up: UUID | None) -> Use:
    """Count an attempt with the place; a booking that was given back does not stand in its way."""
    use = Use(room=room.id, number=place.number, instead_of=giving_up)
    used = await house.rooms.use(use)
    if used is not None and used.booking_id is not None and used.uses < PLACE_ATTEMPTS:
        async with house.db.reader() as reader:
            booking = await booking_reads.by_id(reader, booking=used.booking_id)
        if booking.standing in {"cancelled", "expired"}:
            use = Use(room=room.id, number=place.number, instead_of=booking.id)
            used = await house.rooms.use(use)
    if used is None:
        return use
    if used.uses >= PLACE_ATTEMPTS:
        raise _spent(room, house.rooms.now(), f"Number {place.number} has been tried {PLACE_ATTEMPTS} times.")
    raise _spent(room, house.rooms.now(), f"Something was booked with number {place.number} already.")


def _spent(room: Room, now: datetime, why: str) -> PlaceSpent:
    retry_after_seconds = _whole_seconds(room.next_admission, now)
    return PlaceSpent(f"{why} Take another place.", room=room.id, retry_after_seconds=retry_after_seconds)


def _own_place(house: House, room: Room, tokens: Sequence[str]) -> Place | None:
    places = [read_place(token, secret=house.settings.jwt_secret) for token in tokens]
    return next((place for place in places if place is not None and place.room == room.id), None)


def _tokens(places: str) -> list[str]:
    """What could be places; a text of another length is one that we did not make."""
    found = places[: MOST_PLACES * (PLACE_LENGTH + 1)].split(BETWEEN_PLACES) if places else []
    return found[:MOST_PLACES]


def _standing(house: House, room: Room, place: Place) -> Standing:
    now = house.rooms.now()
    status: PlaceStatus = "WAITING"
    if place.admits_at <= now:
        status = "ADMITTED" if now < place.expires_at else "EXPIRED"
    return Standing(
        place=place,
        token=place.token(secret=house.settings.jwt_secret),
        status=status,
        ahead=room.ahead(number=place.number, admits_at=place.admits_at, now=now),
        wait_seconds=max(0.0, (place.admits_at - now).total_seconds()),
    )


def _check(room: NewRoom) -> None:
    if not room.trips:
        raise InvalidInput("trip", "Name at least one trip.")
    if not 1 <= len(room.name) <= MAX_NAME_LENGTH:
        raise InvalidInput("name", f"A name has from 1 to {MAX_NAME_LENGTH} characters.")
    if not 1 <= room.burst <= MAX_BURST:
        raise InvalidInput("burst", f"From 1 to {MAX_BURST} people at once.")
    if not 60 <= room.window_seconds <= MAX_WINDOW_MINUTES * 60:  # noqa: PLR2004 - a minute
        raise InvalidInput("window", f"From 1 to {MAX_WINDOW_MINUTES} minutes.")


def _whole_seconds(until: datetime, now: datetime) -> int:
    return max(1, math.ceil((until - now).total_seconds()))
