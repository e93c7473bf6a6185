"""The JSON shapes of the API: camelCase, amounts in minor units, times in RFC 3339 UTC."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from kiti.bookings.model import MAX_SEATS, MAX_TRIPS
from kiti.gateways.gateway import Method
from kiti.seats.model import SeatStatus

PayChannel = Literal["HOSTED", "DIRECT"]
ShortText = Annotated[str, msgspec.Meta(max_length=200)]
Code = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
SeatNumber = Annotated[str, msgspec.Meta(min_length=1, max_length=8)]


class Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of what travels: camelCase names."""


class MoneyShape(Shape, frozen=True):
    """Minor units of an ISO currency."""

    amount: int
    currency: str


class FeeShape(Shape, frozen=True):
    """What is asked beside the fares, in minor units; a tax with its rate in basis points.

    What is `included` is within the fares, everything else on top of them.
    """

    kind: Literal["TAX", "PLATFORM_FEE", "GATEWAY_FEE"]
    amount: int
    included: bool
    rate_basis_points: int | None


class ContactBody(Shape, frozen=True):
    """Whom to reach."""

    name: ShortText = ""
    email: Annotated[str, msgspec.Meta(max_length=254)] = ""
    phone: Annotated[str, msgspec.Meta(max_length=32)] = ""


class PassengerBody(Shape, frozen=True):
    """Who travels, and on which seat."""

    name: ShortText
    seat_number: SeatNumber | None = None


class ItemBody(Shape, frozen=True):
    """Seats on one trip of several. With `seatCount` the rest says which are liked best."""

    trip_id: UUID
    seat_numbers: Annotated[list[SeatNumber], msgspec.Meta(max_length=200)] | None = None
    seat_count: int | None = None
    seat_class: ShortText | None = None
    accessible: bool = False
    window: bool = False
    from_: Code | None = msgspec.field(default=None, name="from")
    to: Code | None = None


class ReserveBody(Shape, frozen=True):
    """`tripId` and one of `seatNumbers` and `seatCount`; or `items` for several trips."""

    trip_id: UUID | None = None
    seat_numbers: Annotated[list[SeatNumber], msgspec.Meta(max_length=200)] | None = None
    seat_count: int | None = None
    seat_class: ShortText | None = None
    accessible: bool = False
    window: bool = False
    from_: Code | None = msgspec.field(default=None, name="from")
    to: Code | None = None
    items: Annotated[list[ItemBody], msgspec.Meta(max_length=MAX_TRIPS)] | None = None
    hold_duration_minutes: int = 15
    passengers: Annotated[list[PassengerBody], msgspec.Meta(max_length=MAX_SEATS * MAX_TRIPS)] = []
    contact: ContactBody = ContactBody()
    promo_code: ShortText | None = None
    language: Annotated[str, msgspec.Meta(max_length=8)] = "en"


class ItemShape(Shape, frozen=True):
    """The seats of a booking on one trip."""

    trip_id: UUID
    seat_numbers: list[str]
    from_: str = msgspec.field(name="from")
    to: str
    departure_at: datetime
    arrival_at: datetime


class ReservedShape(Shape, frozen=True):
    """A booking that holds its seats until `expiresAt`. `tripId` is the first trip's."""

    booking_id: UUID
    reference: str
    status: Literal["HELD"]
    trip_id: UUID
    seat_numbers: list[str]
    items: list[ItemShape]
    amount: int
    currency: str
    expires_at: datetime
    hold_token: str


class SeatShape(Shape, frozen=True):
    """One seat of the map for the asked segment; `price` is null where the seat is not sold on it."""

    number: str
    seat_class: str = msgspec.field(name="class")
    status: SeatStatus
    price: MoneyShape | None
    deck: int
    row: int
    column: int
    window: bool
    aisle: bool
    accessible: bool


class SeatMapShape(Shape, frozen=True):
    """The seats of a trip between two stops."""

    trip_id: UUID
    from_: str = msgspec.field(name="from")
    to: str
    seats: list[SeatShape]
    seats_available: int


class PassengerShape(Shape, frozen=True):
    """Who sits where."""

    trip_id: UUID
    seat_number: str
    name: str
    seat_class: str = msgspec.field(name="class")
    price: MoneyShape


BookingStatus = Literal["HELD", "AWAITING_PAYMENT", "CONFIRMED", "COMPLETED", "EXPIRED", "CANCELLED"]
PaymentStatus = Literal["PENDING", "COMPLETED", "FAILED", "EXPIRED", "REFUNDED", "PARTIALLY_REFUNDED", "REVIEW"]


class CancelledSeatShape(Shape, frozen=True):
    """A seat that was cancelled while the rest of the booking stayed; `refunded` went back for it."""

    trip_id: UUID
    seat_number: str
    name: str
    price: MoneyShape
    refunded: MoneyShape
    cancelled_at: datetime


class ReplacedSeatShape(Shape, frozen=True):
    """A seat in the place of one that was lost; until `declineUntil` the booking may be declined for all its money."""

    trip_id: UUID
    lost_seat_number: str
    seat_number: str
    decline_until: datetime


class BookingShape(Shape, frozen=True):
    """A booking as its owner sees it. `amount` is what the seats cost, `total` that and the `fees` on top.

    Before an attempt to pay is open, that is by the dearest way to pay. Who travels are `passengers`;
    `cancelledSeats` do not any more.
    """

    booking_id: UUID
    reference: str
    status: BookingStatus
    trip_id: UUID
    seat_numbers: list[str]
    items: list[ItemShape]
    passengers: list[PassengerShape]
    contact: ContactBody
    amount: int
    fees: list[FeeShape]
    total: int
    currency: str
    created_at: datetime
    expires_at: datetime | None
    confirmed_at: datetime | None
    payment_status: PaymentStatus | None
    cancelled_seats: list[CancelledSeatShape] = []
    replaced_seats: list[ReplacedSeatShape] = []


class ExtendBody(Shape, frozen=True):
    """For how long from now."""

    hold_duration_minutes: Annotated[int, msgspec.Meta(ge=1, le=30)] = 15


class PassengersBody(Shape, frozen=True):
    """Names for seats. `tripId` may be left out where the booking has one trip."""

    passengers: Annotated[list["PassengerNameBody"], msgspec.Meta(min_length=1, max_length=MAX_SEATS * MAX_TRIPS)]
    contact: ContactBody | None = None


class PassengerNameBody(Shape, frozen=True):
    """Who sits on a seat."""

    seat_number: SeatNumber
    name: ShortText
    trip_id: UUID | None = None


class PayMethodShape(Shape, frozen=True):
    """One way to pay. `phonePrefixes` are those of the phones that the channel DIRECT can ask."""

    method: Method
    gateway: str
    channels: list[PayChannel]
    phone_prefixes: list[str]


class PayMethodsShape(Shape, frozen=True):
    """How a booking can be paid, the first choice first."""

    booking_id: UUID
    currency: str
    methods: list[PayMethodShape]


class InitiateBody(Shape, frozen=True):
    """How to pay. `amount` (the seats), `total` (with the fee) and `currency` only assert what is due.

    The channel HOSTED answers a page to pay on; with DIRECT the phone of `phoneNumber` is asked to approve.
    """

    booking_id: UUID
    amount: int | None = None
    total: int | None = None
    currency: ShortText | None = None
    payment_method: Method = "CARD"
    channel: PayChannel = "HOSTED"
    gateway: ShortText | None = None
    phone_number: Annotated[str, msgspec.Meta(max_length=32)] = ""
    return_url: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    contact: ContactBody = ContactBody()


class PaymentOpenedShape(Shape, frozen=True):
    """An open attempt; pay at `paymentUrl`; where it is null on the phone, or for CASH at a counter.

    The counter wants to hear `counterReference`.
    """

    payment_id: UUID
    reference: str
    status: PaymentStatus
    payment_url: str | None
    amount: int
    fee: int
    total: int
    currency: str
    expires_at: datetime
    counter_reference: str | None = None


class CashBody(Shape, frozen=True):
    """Cash that lies on the counter; `amount` in minor units and `currency` assert what is due."""

    amount: int
    currency: ShortText
    counter: Annotated[str, msgspec.Meta(max_length=80)] = ""


class HandoutBody(Shape, frozen=True):
    """Where the money was handed back."""

    counter: Annotated[str, msgspec.Meta(max_length=80)] = ""


class ReceiptShape(Shape, frozen=True):
    """Cash that was taken. A `bookingStatus` that is not CONFIRMED: the seats are gone, and the money is owed back."""

    receipt_number: str
    payment_id: UUID
    booking_id: UUID
    reference: str
    amount: int
    currency: str
    taken_at: datetime
    status: PaymentStatus
    booking_status: str


class PaymentShape(Shape, frozen=True, omit_defaults=True):
    """How far a payment has come."""

    payment_id: UUID
    reference: str
    booking_id: UUID
    status: PaymentStatus
    amount: int
    fee: int
    total: int
    currency: str
    gateway: str
    method: str
    refunded_amount: int
    failure_reason: str | None = None


class RefundBody(Shape, frozen=True):
    """`amount` in minor units; without it all that is left of the payment, or of its `excess` over what was due."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    amount: int | None = None
    excess: bool = False


class ReviewBody(Shape, frozen=True):
    """What becomes of a payment in review, and why."""

    action: Literal["accept", "refund", "ask", "close"]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class RefundShape(Shape, frozen=True):
    """Money on its way back."""

    refund_id: UUID
    booking_id: UUID
    status: Literal["PENDING", "COMPLETED", "FAILED", "REVIEW"]
    amount: int
    currency: str
    reason: str


class TicketShape(Shape, frozen=True):
    """A ticket: `token` is what the QR code holds, `qr` the code as an SVG, `code` what a person reads aloud."""

    ticket_id: UUID
    code: str
    status: Literal["VALID", "USED", "VOID"]
    trip_id: UUID
    seat_number: str
    seat_class: str = msgspec.field(name="class")
    passenger_name: str
    from_: str = msgspec.field(name="from")
    to: str
    departure_at: datetime
    arrival_at: datetime
    timezone: str
    operator: str
    token: str
    qr: str


class TicketsShape(Shape, frozen=True):
    """The tickets of a booking."""

    booking_id: UUID
    reference: str
    tickets: list[TicketShape]


class VerifyBody(Shape, frozen=True):
    """What was scanned (`token`) or typed (`code`, such as K7MPQR-1A), on which trip, where.

    With `use` false nothing is marked. Without `tripId` any trip is right.
    """

    token: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    code: Annotated[str, msgspec.Meta(max_length=2000)] = ""
    trip_id: UUID | None = None
    where: ShortText = ""
    use: bool = True


class VerdictShape(Shape, frozen=True):
    """What the inspector is told. `valid` is true once per ticket."""

    result: Literal["VALID", "ALREADY_USED", "VOID", "UNKNOWN", "WRONG_TRIP"]
    valid: bool
    message: str
    ticket_id: UUID | None = None
    trip_id: UUID | None = None
    seat_number: str | None = None
    passenger_name: str | None = None
    used_at: datetime | None = None
    used_where: str | None = None


class JobRunShape(Shape, frozen=True):
    """What one run of a job did."""

    job: str
    processed: int
    failed: int
    duration_ms: int


class JobShape(Shape, frozen=True):
    """A job that can be run."""

    job: str
    description: str


class JobsShape(Shape, frozen=True):
    """All of them."""

    jobs: list[JobShape]


class JobHealthShape(Shape, frozen=True):
    """How a task of the queue stands: what waits, what is parked, when it last ran."""

    job: str
    waiting: int
    failed: int
    lag_seconds: int
    last_run_at: datetime | None


class JobsHealthShape(Shape, frozen=True):
    """Every task of the queue."""

    jobs: list[JobHealthShape]


class WebhookShape(Shape, frozen=True):
    """The delivery is kept."""

    status: Literal["ok"] = "ok"
