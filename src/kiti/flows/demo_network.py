"""The demo network: three made-up operators between real cities of East Africa. Data, and how it becomes structs.

Coordinates are those of the towns; times and fares are plausible, not anybody's timetable.
"""

from datetime import UTC, date, datetime, time
from typing import Any
from uuid import UUID, uuid5

import msgspec

from kiti.fees.model import FeeRule
from kiti.network.model import (
    Fare,
    Layout,
    Operator,
    Route,
    RouteStop,
    Schedule,
    Stop,
    Vehicle,
    VehicleKind,
    draw,
)

_NAMES = UUID("6b697469-6465-5d6f-8e65-74776f726b00")
_VALID_FROM = date(2020, 1, 1)
_VALID_UNTIL = date(2099, 12, 31)

UG, KE, RW, TZ = "Africa/Kampala", "Africa/Nairobi", "Africa/Kigali", "Africa/Dar_es_Salaam"

# The smallest step in which a fare is written on a bus's side, in minor units.
_STEPS = {"UGX": 1_000, "KES": 50_00, "RWF": 500, "TZS": 500_00}
_VIP_PERCENT = 140

COACH = """
*...>
VV.VV
vv.vv
SS.SS
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
sssss
"""

DOUBLE_DECK = """
*...>
VV..V
vv..v
vv..v
vv..v
%../#

ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss.ss
ss../
ss.ss
ss.ss
ss.ss
"""

SHUTTLE = """
*.SS
>.ss
ss.s
ss.s
ssss
"""

FERRY = """
..*........
>SSS.SSS.SS
sss.ssss.ss
sss.ssss.ss
sss.ssss.ss
sss.ssss.ss
sss.ssss.ss
%%...//...#

vv..vvv..vv
vv..vvv..vv
vv..vvv..vv
....//.....
"""

DRAWINGS = {"Coach": COACH, "Double-decker": DOUBLE_DECK, "Shuttle": SHUTTLE, "Ferry": FERRY}


class DemoStop(msgspec.Struct, frozen=True):
    """A stop, as short as it can be said."""

    code: str
    name: str
    city: str
    country: str
    timezone: str
    latitude: float
    longitude: float


class DemoLine(msgspec.Struct, frozen=True):
    """A route there and back.

    `legs` are minutes of each leg on the way there, `pause` the minutes at stops between; back takes as long.
    Fares are of the whole way in the cheapest class, in minor units; departures by the clocks of the first stop.
    """

    operator: str
    stops: tuple[str, ...]
    legs: tuple[int, ...]
    pause: int
    there: tuple[int, str]
    back: tuple[int, str]
    vehicle: str
    leaves: tuple[str, ...]
    returns: tuple[str, ...]


OPERATORS = (
    ("korongo", "Korongo Coaches", "UG", UG, "+256 312 000 111"),
    ("nyika", "Nyika Express", "KE", KE, "+254 20 000 0222"),
    ("mbuyu", "Mbuyu Lines", "TZ", TZ, "+255 22 000 0333"),
)

# What travellers see is the same everywhere but with one operator, whose tickets carry a service fee on top: of 2.5 %,
# by currency never below nor above these, in minor units.
COMMISSION_BASIS_POINTS = {"korongo": 800, "nyika": 700, "mbuyu": 900}
TAX_BASIS_POINTS = {"UG": 1_800, "KE": 1_600, "TZ": 1_800}
SERVICE_FEE_OPERATOR = "mbuyu"
SERVICE_FEE_BASIS_POINTS = 250
SERVICE_FEE_LIMITS = {"TZS": (1_000_00, 5_000_00), "KES": (50_00, 250_00)}

STOPS = (
    DemoStop("KLA", "Kampala Coach Park", "Kampala", "UG", UG, 0.3136, 32.5811),
    DemoStop("EBB", "Entebbe Nakiwogo Landing", "Entebbe", "UG", UG, 0.0717, 32.4520),
    DemoStop("KGA", "Kalangala Lutoboka Landing", "Kalangala", "UG", UG, -0.3089, 32.2920),
    DemoStop("JIN", "Jinja Main Street", "Jinja", "UG", UG, 0.4244, 33.2042),
    DemoStop("MBR", "Mbarara Coach Park", "Mbarara", "UG", UG, -0.6072, 30.6545),
    DemoStop("KBL", "Kabale Town", "Kabale", "UG", UG, -1.2486, 29.9899),
    DemoStop("KGL", "Kigali Nyabugogo", "Kigali", "RW", RW, -1.9397, 30.0445),
    DemoStop("MUH", "Muhanga Centre", "Muhanga", "RW", RW, -2.0845, 29.7527),
    DemoStop("HUY", "Huye Centre", "Huye", "RW", RW, -2.5967, 29.7394),
    DemoStop("NBO", "Nairobi River Road", "Nairobi", "KE", KE, -1.2833, 36.8270),
    DemoStop("NAK", "Nakuru Stage", "Nakuru", "KE", KE, -0.2833, 36.0667),
    DemoStop("KSM", "Kisumu Bus Park", "Kisumu", "KE", KE, -0.1022, 34.7617),
    DemoStop("ELD", "Eldoret Stage", "Eldoret", "KE", KE, 0.5143, 35.2698),
    DemoStop("VOI", "Voi Town", "Voi", "KE", KE, -3.3961, 38.5561),
    DemoStop("MBA", "Mombasa Mwembe Tayari", "Mombasa", "KE", KE, -4.0547, 39.6636),
    DemoStop("ARU", "Arusha Bus Terminal", "Arusha", "TZ", TZ, -3.3731, 36.6823),
    DemoStop("MOS", "Moshi Bus Stand", "Moshi", "TZ", TZ, -3.3503, 37.3433),
    DemoStop("MOR", "Morogoro Msamvu", "Morogoro", "TZ", TZ, -6.8063, 37.6710),
    DemoStop("DAR", "Dar es Salaam Ubungo", "Dar es Salaam", "TZ", TZ, -6.7935, 39.2083),
    DemoStop("DOD", "Dodoma Bus Terminal", "Dodoma", "TZ", TZ, -6.1722, 35.7395),
    DemoStop("MWZ", "Mwanza Nyegezi", "Mwanza", "TZ", TZ, -2.5837, 32.8957),
)

LINES = (
    DemoLine(
        "korongo", ("KLA", "MBR", "KBL", "KGL"), (270, 140, 160), 15, (65_000, "UGX"), (24_000, "RWF"),
        "Coach", ("06:30", "09:00", "13:30", "20:00"), ("05:30", "08:00", "12:00", "18:30"),
    ),
    DemoLine(
        "nyika", ("KLA", "MBR", "KGL"), (260, 280), 20, (75_000, "UGX"), (27_500, "RWF"),
        "Double-decker", ("07:30", "21:30"), ("07:00", "20:30"),
    ),
    DemoLine(
        "korongo", ("KLA", "EBB"), (75,), 0, (8_000, "UGX"), (8_000, "UGX"),
        "Shuttle", ("06:00", "09:00", "11:00", "14:30", "17:00", "19:30"),
        ("07:30", "10:30", "12:30", "16:00", "18:30", "21:00"),
    ),
    DemoLine(
        "korongo", ("EBB", "KGA"), (210,), 0, (15_000, "UGX"), (15_000, "UGX"),
        "Ferry", ("14:00",), ("08:00",),
    ),
    DemoLine(
        "korongo", ("KGL", "MUH", "HUY"), (65, 85), 5, (4_500, "RWF"), (4_500, "RWF"),
        "Shuttle", ("06:00", "08:30", "11:00", "14:00", "17:00"), ("06:00", "08:30", "11:00", "14:00", "17:00"),
    ),
    DemoLine(
        "nyika", ("NBO", "VOI", "MBA"), (300, 165), 20, (1_800_00, "KES"), (1_800_00, "KES"),
        "Double-decker", ("08:00", "10:30", "21:00", "22:30"), ("07:30", "10:00", "20:30", "22:00"),
    ),
    DemoLine(
        "nyika", ("NBO", "NAK", "KSM"), (150, 210), 15, (1_500_00, "KES"), (1_500_00, "KES"),
        "Coach", ("07:00", "09:30", "13:00", "21:30"), ("07:00", "09:30", "13:00", "21:00"),
    ),
    DemoLine(
        "nyika", ("NBO", "NAK", "ELD", "JIN", "KLA"), (150, 165, 285, 110), 15, (3_200_00, "KES"), (90_000, "UGX"),
        "Coach", ("07:00", "18:30"), ("06:00", "17:00"),
    ),
    DemoLine(
        "mbuyu", ("DAR", "MOR", "DOD", "MWZ"), (195, 240, 560), 20, (72_000_00, "TZS"), (72_000_00, "TZS"),
        "Double-decker", ("06:00", "15:00"), ("05:30", "14:30"),
    ),
    DemoLine(
        "mbuyu", ("DAR", "MOS", "ARU"), (500, 85), 15, (42_000_00, "TZS"), (42_000_00, "TZS"),
        "Coach", ("06:00", "09:00", "20:00"), ("06:00", "08:30", "19:00"),
    ),
    DemoLine(
        "mbuyu", ("NBO", "ARU", "MOS", "DAR"), (310, 85, 500), 20, (4_500_00, "KES"), (90_000_00, "TZS"),
        "Double-decker", ("06:30", "17:30"), ("05:30", "16:30"),
    ),
)  # fmt: skip

_KINDS: dict[str, VehicleKind] = {"Coach": "bus", "Double-decker": "bus", "Shuttle": "shuttle", "Ferry": "ferry"}
_PLATES = {"korongo": "UBK {:03d}D", "nyika": "KDN {:03d}E", "mbuyu": "T {:03d} DMB"}


class DemoRoute(msgspec.Struct, frozen=True):
    """One direction of a line with what hangs below it."""

    route: Route
    fares: list[Fare]
    vehicle: Vehicle
    schedules: list[Schedule]


def operators() -> list[Operator]:
    """The three operators."""
    return [
        Operator(id=_id("operator", code), code=code, name=name, country=country, timezone=zone, support_phone=phone)
        for code, name, country, zone, phone in OPERATORS
    ]


def fee_rules() -> list[FeeRule]:
    """A commission and a tax within the fare of every operator, and one operator's service fee."""
    found = []
    begin = datetime(_VALID_FROM.year, 1, 1, tzinfo=UTC)
    for code, _, country, _, _ in OPERATORS:
        lines = [line for line in LINES if line.operator == code]
        for currency in sorted({currency for line in lines for _, currency in (line.there, line.back)}):
            mine: dict[str, Any] = {"currency": currency, "operator_id": _id("operator", code), "valid_from": begin}
            asked: list[dict[str, Any]] = [
                {"kind": "commission", "borne_by": "operator", "basis_points": COMMISSION_BASIS_POINTS[code]},
                {"kind": "tax", "borne_by": "operator", "basis_points": TAX_BASIS_POINTS[country]},
            ]
            if code == SERVICE_FEE_OPERATOR:
                minimum, maximum = SERVICE_FEE_LIMITS[currency]
                limits = {"basis_points": SERVICE_FEE_BASIS_POINTS, "minimum": minimum, "maximum": maximum}
                asked.append({"kind": "platform_fee", "borne_by": "traveller", **limits})
            found += [FeeRule(id=_id("fee", code, currency, rule["kind"]), **mine, **rule) for rule in asked]
    return found


def stops() -> list[Stop]:
    """The stops of four countries."""
    return [Stop(id=_id("stop", stop.code), **msgspec.structs.asdict(stop)) for stop in STOPS]


def layouts() -> list[Layout]:
    """The layouts that each operator's lines need."""
    needed = sorted({(line.operator, line.vehicle) for line in LINES})
    return [
        draw(
            DRAWINGS[name],
            layout=_id("layout", operator, name),
            operator_id=_id("operator", operator),
            name=name,
        )
        for operator, name in needed
    ]


def routes() -> list[DemoRoute]:
    """Every line there and back, each direction with a vehicle of its own."""
    classes = {layout.id: sorted({seat.seat_class for seat in layout.seats}) for layout in layouts()}
    return [
        _direction(line, number=2 * index + back, back=bool(back), classes=classes)
        for index, line in enumerate(LINES)
        for back in (0, 1)
    ]


def segment_fares(stops: tuple[RouteStop, ...], *, classes: list[str], amount: int, currency: str) -> list[Fare]:
    """Fares of every segment and class: by the share of the way, plus a tenth for short rides, in round steps."""
    step = _STEPS[currency]
    whole = stops[-1].arrives_after_minutes
    fares = []
    for from_seq, boards in enumerate(stops):
        for to_seq, alights in enumerate(stops[from_seq + 1 :], from_seq + 1):
            minutes = alights.arrives_after_minutes - boards.departs_after_minutes
            share = amount * (9 * minutes + whole) // (10 * whole) if minutes < whole else amount
            for seat_class in classes:
                exact = share * _VIP_PERCENT // 100 if seat_class == "VIP" else share
                rounded = max(step, (exact + step // 2) // step * step)
                fares.append(
                    Fare(from_seq=from_seq, to_seq=to_seq, seat_class=seat_class, amount=rounded, currency=currency)
                )
    return fares


def _direction(line: DemoLine, *, number: int, back: bool, classes: dict[UUID, list[str]]) -> DemoRoute:
    codes = line.stops[::-1] if back else line.stops
    legs = line.legs[::-1] if back else line.legs
    amount, currency = line.back if back else line.there
    cities = {stop.code: stop.city for stop in STOPS}
    operator, layout = _id("operator", line.operator), _id("layout", line.operator, line.vehicle)
    code = "-".join(codes)
    route = Route(
        id=_id("route", line.operator, code),
        operator_id=operator,
        code=code,
        name=f"{cities[codes[0]]} to {cities[codes[-1]]}",
        stops=_route_stops(codes, legs, line.pause),
    )
    vehicle = Vehicle(
        id=_id("vehicle", line.operator, code),
        operator_id=operator,
        layout_id=layout,
        kind=_KINDS[line.vehicle],
        name=line.vehicle,
        registration=_PLATES[line.operator].format(101 + 7 * number),
    )
    schedules = [
        Schedule(
            id=_id("schedule", line.operator, code, leaves),
            operator_id=operator,
            route_id=route.id,
            vehicle_id=vehicle.id,
            departs_local=time.fromisoformat(leaves),
            valid_from=_VALID_FROM,
            valid_until=_VALID_UNTIL,
        )
        for leaves in (line.returns if back else line.leaves)
    ]
    fares = segment_fares(route.stops, classes=classes[layout], amount=amount, currency=currency)
    return DemoRoute(route, fares, vehicle, schedules)


def _route_stops(codes: tuple[str, ...], legs: tuple[int, ...], pause: int) -> tuple[RouteStop, ...]:
    found = []
    arrives = 0
    for seq, code in enumerate(codes):
        is_end = seq in {0, len(codes) - 1}
        departs = arrives if is_end else arrives + pause
        found.append(RouteStop(stop_id=_id("stop", code), arrives_after_minutes=arrives, departs_after_minutes=departs))
        arrives = departs + (legs[seq] if seq < len(legs) else 0)
    return tuple(found)


def _id(*names: str) -> UUID:
    """The same id in every process and at every run."""
    return uuid5(_NAMES, "/".join(names))
