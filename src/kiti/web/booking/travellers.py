"""The form that asks who travels: what was typed, what is wrong with it, and writing it down."""

from collections.abc import Mapping

import msgspec
from babel.core import get_global
from litestar.datastructures import FormMultiDict

from kiti.bookings.model import BookedSeat, Contact
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.flows.house import House
from kiti.flows.show import BookingView
from kiti.flows.travellers import Named, name_travellers
from kiti.web.page.language import Words

TYPED_LENGTH = 300


class Typed(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the fields. Names by the field of their seat."""

    names: Mapping[str, str]
    phone: str
    email: str


def field_of(line: BookedSeat, lines: list[BookedSeat]) -> str:
    """The name of the field for a seat: name-1, name-2 in the order of the booking."""
    return f"name-{lines.index(line) + 1}"


def standing(view: BookingView) -> Typed:
    """What the booking has already."""
    return Typed(
        names={field_of(line, view.lines): line.passenger_name for line in view.lines},
        phone=view.booking.contact_phone,
        email=view.booking.contact_email,
    )


def typed(form: FormMultiDict, view: BookingView) -> Typed:
    """What came with the form."""
    fields = [field_of(line, view.lines) for line in view.lines]
    return Typed(
        names={field: str(form.get(field, ""))[:TYPED_LENGTH] for field in fields},
        phone=str(form.get("phone", ""))[:TYPED_LENGTH],
        email=str(form.get("email", ""))[:TYPED_LENGTH],
    )


def checked(found: Typed, *, region: str | None, words: Words) -> tuple[Typed, dict[str, str]]:
    """The same cleaned, and what is wrong by field. `region` is where a number without a country code is taken to be.

    Nobody has to be told twice: every field is looked at.
    """
    errors: dict[str, str] = {}
    names = {}
    for field, name in found.names.items():
        try:
            names[field] = text.clean(name, field=field)
        except InvalidInput:
            errors[field] = words.gettext("Write the name in up to %(most)s plain letters.", most=text.NAME_LENGTH)
            continue
        if not names[field]:
            errors[field] = words.gettext("Write the name of who sits here.")
    phone, email = "", ""
    try:
        phone = text.phone(found.phone, field="phone", region=region)
        if not phone:
            errors["phone"] = words.gettext("Write a phone number. You find your ticket again with it.")
    except InvalidInput:
        errors["phone"] = words.gettext("This is no phone number. Write it with the country code: +256 772 123456.")
    try:
        email = text.email(found.email, field="email")
    except InvalidInput:
        errors["email"] = words.gettext("This is no e-mail address. It looks like name@example.com.")
    return Typed(names=names, phone=phone, email=email), errors


async def write_down(house: House, view: BookingView, clean: Typed) -> None:
    """Put the names to the seats and the contact to the booking; raises HoldLapsed, WrongState."""
    names = [
        Named(seat=line.seat, name=clean.names[field_of(line, view.lines)], trip=line.trip_id) for line in view.lines
    ]
    contact = Contact(name=view.booking.contact_name or names[0].name, email=clean.email, phone=clean.phone)
    await name_travellers(house.db, booking=view.booking.id, named=names, contact=contact, actor="guest")


def region_of(view: BookingView) -> str | None:
    """The country (ISO 3166) where the journey begins, by its time zone."""
    trip, lines = view.by_trip()[0]
    region: str | None = get_global("zone_territories").get(trip.stops[lines[0].from_seq].timezone)
    return region
