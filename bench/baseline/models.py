"""Tables and bodies that both baselines share."""

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import DateTime, ForeignKey
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ALPHABET = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
Moment = Annotated[datetime, mapped_column(DateTime(timezone=True))]


class Base(DeclarativeBase):
    """Everything lives in a schema of its own."""

    __table_args__: Any = {"schema": "baseline"}  # noqa: RUF012 - SQLAlchemy's way


class Trip(Base):
    """A departure."""

    __tablename__ = "trip"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    status: Mapped[str]
    departs_at: Mapped[Moment]
    fare: Mapped[int]
    currency: Mapped[str]


class SeatLeg(Base):
    """One row of inventory."""

    __tablename__ = "seat_leg"
    trip_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Trip.id), primary_key=True)
    seat: Mapped[str] = mapped_column(primary_key=True)
    leg: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    booking_id: Mapped[uuid.UUID | None]
    held_until: Mapped[Annotated[datetime | None, mapped_column(DateTime(timezone=True))]]


class Booking(Base):
    """A hold."""

    __tablename__ = "booking"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    reference: Mapped[str]
    status: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str]
    contact_name: Mapped[str]
    contact_email: Mapped[str]
    contact_phone: Mapped[str]
    created_at: Mapped[Moment]
    expires_at: Mapped[Moment]


class BookingSeat(Base):
    """A seat of a booking."""

    __tablename__ = "booking_seat"
    booking_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Booking.id), primary_key=True)
    trip_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    seat: Mapped[str] = mapped_column(primary_key=True)
    from_seq: Mapped[int]
    to_seq: Mapped[int]
    fare: Mapped[int]
    passenger_name: Mapped[str]


class AuditLog(Base):
    """Who did what."""

    __tablename__ = "audit_log"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    booking_id: Mapped[uuid.UUID]
    at: Mapped[Moment]
    actor: Mapped[str]
    action: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB)


def check_email(value: str) -> str:
    """Looks like name@example.com."""
    if value and not EMAIL.fullmatch(value):
        raise ValueError("no e-mail address")
    return value


def check_phone(value: str) -> str:
    """E.164."""
    if not value:
        return value
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException as error:
        raise ValueError("no phone number") from error
    if not phonenumbers.is_possible_number(number):
        raise ValueError("no phone number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class Shape(BaseModel):
    """camelCase outside."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Contact(Shape):
    """Whom to reach."""

    name: str = Field("", max_length=200)
    email: Annotated[str, Field(max_length=254), AfterValidator(check_email)] = ""
    phone: Annotated[str, Field(max_length=32), AfterValidator(check_phone)] = ""


class Passenger(Shape):
    """Who travels."""

    name: str = Field(max_length=200)
    seat_number: str | None = Field(None, max_length=8)


class Reserve(Shape):
    """The body of a reservation, over the whole way."""

    trip_id: uuid.UUID
    seat_numbers: list[str] = Field(min_length=1, max_length=20)
    hold_duration_minutes: int = Field(15, ge=1, le=30)
    passengers: list[Passenger] = Field([], max_length=20)
    contact: Contact = Contact()


class Reserved(Shape):
    """The answer."""

    booking_id: uuid.UUID
    reference: str
    status: str
    trip_id: uuid.UUID
    seat_numbers: list[str]
    amount: int
    currency: str
    expires_at: datetime


def now() -> datetime:
    """In UTC."""
    return datetime.now(UTC)


def new_reference() -> str:
    """Six characters."""
    return "".join(secrets.choice(ALPHABET) for _ in range(6))


def add_booking(session: Any, trip: Trip, data: Reserve, *, booking_id: uuid.UUID, until: datetime) -> Booking:
    """The rows of a booking, for the session to flush."""
    names = {p.seat_number: p.name for p in data.passengers}
    booking = Booking(
        id=booking_id,
        reference=new_reference(),
        status="held",
        amount=trip.fare * len(data.seat_numbers),
        currency=trip.currency,
        contact_name=data.contact.name,
        contact_email=data.contact.email,
        contact_phone=data.contact.phone,
        created_at=now(),
        expires_at=until,
    )
    session.add(booking)
    for seat in data.seat_numbers:
        session.add(
            BookingSeat(
                booking_id=booking.id,
                trip_id=trip.id,
                seat=seat,
                from_seq=0,
                to_seq=3,
                fare=trip.fare,
                passenger_name=names.get(seat, ""),
            )
        )
    session.add(
        AuditLog(
            booking_id=booking.id,
            at=now(),
            actor="guest",
            action="booking.held",
            detail={"reference": booking.reference, "seats": data.seat_numbers},
        )
    )
    return booking


def shape(booking: Booking, data: Reserve) -> Reserved:
    """What the caller is told."""
    return Reserved(
        booking_id=booking.id,
        reference=booking.reference,
        status="HELD",
        trip_id=data.trip_id,
        seat_numbers=data.seat_numbers,
        amount=booking.amount,
        currency=booking.currency,
        expires_at=booking.expires_at,
    )
