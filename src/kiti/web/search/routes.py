"""The home page, the trips of a day, and stops that begin like what is being typed."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get
from litestar.response import Redirect

from kiti.core.clock import local
from kiti.core.money import Money
from kiti.db import Reader
from kiti.fees.model import FeeRule
from kiti.flows.house import House
from kiti.flows.prices import asking_price
from kiti.network import reads as network
from kiti.network.model import DayDepartures, PopularPair, Stop, TripFound, TripPage
from kiti.network.reads import AmbiguousStop, InvalidCursor, UnknownStop
from kiti.web.page.language import Words
from kiti.web.page.render import page, words_of

PAIRS_SHOWN = 8
PAIRS_KNOWN = 50
STOPS_OFFERED = 10
DAYS_AHEAD = 365
DAYS_AROUND = 3
MOST_TRAVELLERS = 20
TYPED_LENGTH = 120
# Whose midnight decides what "today" is while nobody has said where they are.
HOME_TIMEZONE = "Africa/Kampala"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed into the search form, as it was typed."""

    origin: str = ""
    destination: str = ""
    day: str = ""
    travellers: int = 1

    def address(self, **changes: Any) -> str:
        """Where the trips for this query are."""
        asked = msgspec.structs.replace(self, **{k: v for k, v in changes.items() if k != "cursor"})
        fields = {"from": asked.origin, "to": asked.destination, "date": asked.day, "passengers": asked.travellers}
        cursor = changes.get("cursor")
        return "/trips?" + urlencode(fields | ({"cursor": cursor} if cursor else {}))


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A trip in the list of results; times by the clocks of its stops, `price` with all fees."""

    trip: TripFound
    departure: datetime
    arrival: datetime
    address: str
    price: Money

    @property
    def minutes(self) -> int:
        """How long the journey takes."""
        return round((self.arrival - self.departure).total_seconds() / 60)

    @property
    def nights(self) -> int:
        """How many local dates later it ends."""
        return (self.arrival.date() - self.departure.date()).days


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A query that makes sense: stops that exist and a day that is not over."""

    boards: Stop
    alights: Stop
    day: date


@get("/")
async def home(request: Request[Any, Any, Any], house: House) -> Response[str]:
    """Ask where to."""
    async with house.db.reader() as reader:
        pairs = await network.popular_pairs(reader, limit=PAIRS_KNOWN)
    query = _query(request)
    today = _today(HOME_TIMEZONE)
    if not query.day:
        query = msgspec.structs.replace(query, day=today.isoformat())
    return page(
        request,
        "search/home.html",
        query=query,
        errors={},
        pairs=await _priced(house, pairs),
        **_offers(pairs, today),
    )


@get("/trips")
async def trips(request: Request[Any, Any, Any], house: House) -> Response[Any]:
    """The trips of a day, in order of departure."""
    query = _query(request)
    if not query.origin and not query.destination:
        return Redirect("/", status_code=303)
    rules = await house.catalogue.fee_rules()
    async with house.db.reader() as reader:
        pairs = await network.popular_pairs(reader, limit=PAIRS_KNOWN)
        plan, errors = await _plan(reader, query, words_of(request))
        if plan is None:
            offers = _offers(pairs, _today(HOME_TIMEZONE))
            return page(
                request,
                "search/home.html",
                status=422,
                query=query,
                errors=errors,
                pairs=await _priced(house, pairs),
                **offers,
            )
        found = await _found(reader, plan, request.query_params.get("cursor"))
        days = await network.departures_by_day(
            reader, boards=plan.boards, alights=plan.alights, around=plan.day, days_around=DAYS_AROUND
        )
    query = Query(
        origin=plan.boards.name, destination=plan.alights.name, day=plan.day.isoformat(), travellers=query.travellers
    )
    by_code = msgspec.structs.replace(query, origin=plan.boards.code, destination=plan.alights.code)
    return page(
        request,
        "search/results.html",
        query=query,
        errors={},
        plan=plan,
        rows=[_row(trip, found, query.travellers, rules) for trip in found.trips],
        days=[(day, by_code.address(day=day.local_date.isoformat())) for day in days],
        back=by_code.address(origin=plan.alights.code, destination=plan.boards.code),
        more=by_code.address(cursor=found.next_cursor) if found.next_cursor else None,
        is_first=not request.query_params.get("cursor"),
        next_day=_next_day(days, plan.day, by_code),
        clocks_differ_minutes=_clocks_differ_minutes(plan, found),
        **_offers(pairs, _today(plan.boards.timezone)),
    )


@get("/stops")
async def stops(request: Request[Any, Any, Any], house: House) -> Response[str]:
    """Options for a datalist: stops that begin like what has been typed into "from" or "to"."""
    typed = request.query_params.get("from") or request.query_params.get("to") or ""
    async with house.db.reader() as reader:
        found = await network.stops_matching(reader, query=typed, limit=STOPS_OFFERED)
    return page(request, "search/stops.html", stops=[(stop.name, stop.city) for stop in found])


def _query(request: Request[Any, Any, Any]) -> Query:
    asked = request.query_params
    travellers = asked.get("passengers", "1")[:3]
    return Query(
        origin=asked.get("from", "").strip()[:TYPED_LENGTH],
        destination=asked.get("to", "").strip()[:TYPED_LENGTH],
        day=asked.get("date", "").strip()[:TYPED_LENGTH],
        travellers=min(max(int(travellers), 1), MOST_TRAVELLERS) if travellers.isdecimal() else 1,
    )


async def _plan(reader: Reader, query: Query, words: Words) -> tuple[Plan | None, dict[str, str]]:
    """The query's meaning, or what is wrong with each field."""
    errors: dict[str, str] = {}
    boards = await _stop(reader, query.origin, "from", errors, words)
    alights = await _stop(reader, query.destination, "to", errors, words)
    if boards is not None and alights is not None and boards.id == alights.id:
        errors["to"] = words.gettext("That is where you start. Choose another place.")
    today = _today(HOME_TIMEZONE if boards is None else boards.timezone)
    day = today
    try:
        day = date.fromisoformat(query.day) if query.day else today
    except ValueError:
        errors["date"] = words.gettext("This is no date. Write it as 2026-12-24.")
    if day < today:
        errors["date"] = words.gettext("This day is over. Choose today or a later day.")
    if day > today + timedelta(days=DAYS_AHEAD):
        errors["date"] = words.gettext("That is more than a year ahead. Choose an earlier day.")
    if errors or boards is None or alights is None:
        return None, errors
    return Plan(boards=boards, alights=alights, day=day), errors


async def _stop(reader: Reader, typed: str, field: str, errors: dict[str, str], words: Words) -> Stop | None:
    if not typed:
        errors[field] = words.gettext("Say a town or a stop, such as Kampala.")
        return None
    try:
        return await network.stop_by_code_or_name(reader, named=typed)
    except UnknownStop:
        errors[field] = words.gettext("We know no stop of that name. Try the name of a town.")
    except AmbiguousStop as error:
        errors[field] = words.gettext(
            "Several stops have that name. Choose one of these: %(codes)s.", codes=", ".join(error.codes)
        )
    return None


async def _found(reader: Reader, plan: Plan, cursor: str | None) -> TripPage:
    try:
        return await network.search(reader, boards=plan.boards, alights=plan.alights, day=plan.day, cursor=cursor)
    except InvalidCursor:  # an address that was cut short begins at the first trip
        return await network.search(reader, boards=plan.boards, alights=plan.alights, day=plan.day)


def _row(trip: TripFound, found: TripPage, travellers: int, rules: Sequence[FeeRule]) -> Row:
    place = urlencode({"from": found.boards.code, "to": found.alights.code, "passengers": travellers})
    return Row(
        trip=trip,
        departure=local(trip.departs_at, timezone=found.boards.timezone),
        arrival=local(trip.arrives_at, timezone=found.alights.timezone),
        address=f"/trips/{trip.trip_id}/seats?{place}",
        price=asking_price(rules, trip.operator_id, [trip.price]).total,
    )


async def _priced(house: House, pairs: Sequence[PopularPair]) -> list[tuple[PopularPair, Money]]:
    """Those that are shown, and what a seat costs with all fees."""
    rules = await house.catalogue.fee_rules()
    fares = [(pair, Money(pair.amount, pair.currency)) for pair in pairs[:PAIRS_SHOWN]]
    return [(pair, asking_price(rules, pair.operator_id, [fare]).total) for pair, fare in fares]


def _next_day(days: list[DayDepartures], day: date, query: Query) -> tuple[date, str] | None:
    """The first later day that has trips, for when this one has none."""
    for other in days:
        if other.local_date > day and other.departures:
            return other.local_date, query.address(day=other.local_date.isoformat())
    return None


def _clocks_differ_minutes(plan: Plan, found: TripPage) -> int:
    """How far the clocks where the way ends are ahead of those where it begins; behind is negative."""
    moment = found.trips[0].departs_at if found.trips else datetime.now(UTC)
    ahead = local(moment, timezone=plan.alights.timezone).utcoffset()
    ours = local(moment, timezone=plan.boards.timezone).utcoffset()
    assert ahead is not None, "local times know their zone"
    assert ours is not None, "local times know their zone"
    return round((ahead - ours).total_seconds() / 60)


def _offers(pairs: list[PopularPair], today: date) -> dict[str, Any]:
    """What the search form offers before anything is typed."""
    known: dict[str, str] = {}
    for pair in pairs:
        known.setdefault(pair.from_name, pair.from_city)
        known.setdefault(pair.to_name, pair.to_city)
    return {
        "stops": sorted(known.items(), key=lambda stop: stop[1]),
        "today": today,
        "last_day": today + timedelta(days=DAYS_AHEAD),
        "most_travellers": 9,
    }


def _today(timezone: str) -> date:
    return local(datetime.now(UTC), timezone=timezone).date()


ROUTES = [home, trips, stops]
