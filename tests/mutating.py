"""Every call of the API that changes something: how it comes about that it can be made, and what it then does once.

    call = (await ready(house))["POST /api/bookings/{booking_id}/extend"][0]
    await call.ask(house, key="…")

A new route needs an entry in `RECIPES`; tests/integration/test_replays.py compares them with the OpenAPI document.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import httpx
import msgspec

from kiti.core.ids import new_id
from kiti.network import actions as network
from kiti.waiting import actions as waiting
from kiti.waiting.model import NewRoom
from tests.house import JsonObject, RunningHouse, holder, until
from tests.network import SHUTTLE_UGX, STANDARD_UGX
from tests.staff import staff_headers

Headers = Mapping[str, str]

ROOM = "A line that is asked for again"

# Calls that no key is asked for, and why they need none.
WITHOUT_KEYS = {
    "POST /api/auth/login": "it changes nothing, and neither password nor token may be kept",
    "POST /api/jobs/{job}": "a job may be run twice, also at once",
    "POST /api/payments/webhook/{gateway}": "a delivery is kept once, by its digest",
}


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A call that will succeed. `times` is a question that tells how often its effect is there.

    `is_the_same_again`: doing it twice comes to the same as doing it once, so a retry after a crash may.
    """

    method: str
    path: str
    times: tuple[str, tuple[Any, ...]]
    body: Any = None
    headers: Headers = msgspec.field(default_factory=dict)
    is_the_same_again: bool = False

    async def ask(self, house: RunningHouse, *, key: str, body: Any = ...) -> httpx.Response:
        """Make the call, under a key, with its own body or another one; whatever the answer."""
        return await house.api.request(
            self.method,
            self.path,
            json=self.body if body is ... else body,
            headers={**self.headers, "Idempotency-Key": key},
        )

    async def done(self, house: RunningHouse) -> int:
        """How often its effect is there."""
        statement, parameters = self.times
        return int(await house.box.value(statement, *parameters))


Recipe = Callable[[RunningHouse], Awaitable[Call]]


async def ready(house: RunningHouse) -> dict[str, list[Call]]:
    """A call for each recipe, by route; prepared side by side."""
    routes = [(route, recipe) for route, recipes in RECIPES.items() for recipe in recipes]
    calls = await asyncio.gather(*(recipe(house) for _, recipe in routes))
    found: dict[str, list[Call]] = {}
    for (route, _), call in zip(routes, calls, strict=True):
        found.setdefault(route, []).append(call)
    return found


# ---------------------------------------------------------------- holders of a booking


async def reserve(house: RunningHouse) -> Call:
    trip = str(house.network.bus())
    return Call(
        method="POST",
        path="/api/bookings/reserve",
        body={"tripId": trip, "seatNumbers": ["1A", "1B"]},
        times=("SELECT count(DISTINCT booking_id) FROM booking_seat WHERE trip_id = %s", (trip,)),
    )


async def extend(house: RunningHouse) -> Call:
    booking = await house.reserve(house.network.bus(), ["1A"])
    body = {"holdDurationMinutes": 20}
    return _of(booking, "POST", "/extend", "hold.extended", body=body, is_the_same_again=True)


async def release(house: RunningHouse) -> Call:
    return _of(await house.reserve(house.network.bus(), ["1A"]), "DELETE", "/hold", "hold.released")


async def name_passengers(house: RunningHouse) -> Call:
    booking = await house.reserve(house.network.bus(), ["1A"])
    body = {"passengers": [{"seatNumber": "1A", "name": "Grace Achieng"}]}
    return _of(booking, "PUT", "/passengers", "booking.passengers", body=body, is_the_same_again=True)


async def swap_held(house: RunningHouse) -> Call:
    booking = await house.reserve(house.network.bus(), ["1A"])
    return _of(booking, "POST", "/seats", "booking.swapped", body={"swaps": [{"from": "1A", "to": "5C"}]})


async def swap_paid(house: RunningHouse) -> Call:
    booking, _ = await house.buy(house.network.bus(), ["1A", "1B"])
    body = {"swaps": [{"from": "1A", "to": "1B"}, {"from": "1B", "to": "7D"}]}
    return _of(booking, "POST", "/seats", "booking.swapped", body=body)


async def cancel_hold(house: RunningHouse) -> Call:
    return _of(await house.reserve(house.network.bus(), ["1A"]), "POST", "/cancel", "hold.released")


async def cancel_whole(house: RunningHouse) -> Call:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    return _of(booking, "POST", "/cancel", "booking.cancelled", body={"reason": "Ill."})


async def cancel_part(house: RunningHouse) -> Call:
    booking, _ = await house.buy(house.network.bus(), ["1A", "1B"])
    body = {"seats": [{"tripId": booking["tripId"], "seatNumber": "1B"}]}
    return _of(booking, "POST", "/cancel", "booking.seats_cancelled", body=body)


async def decline_replacement(house: RunningHouse) -> Call:
    """Its money was late, its seat was sold to somebody else meanwhile, and it got another one."""
    trip = house.network.shuttle()
    lake = house.network.shuttle_line.operator.id
    booking = await house.reserve(trip, ["3A"])
    payment = await house.initiate(booking)
    over = "kiti_now() - interval '1 second'"
    await house.box.rows(
        f"UPDATE booking SET hold_expires_at = {over}, hold_cap_at = {over} WHERE id = %s", booking["bookingId"]
    )
    await house.box.rows(f"UPDATE seat_claim SET expires_at = {over} WHERE owner_id = %s", booking["bookingId"])
    await house.reserve(trip, ["3A"])
    await house.box.db.run(lambda tx: network.set_lost_seats(tx, operator=lake, replaces=True))
    await house.sim.pay(payment)
    found = await house.booking_until(booking, "CONFIRMED")
    await house.box.db.run(lambda tx: network.set_lost_seats(tx, operator=lake, replaces=False))
    assert found["replacedSeats"], found
    return _of(booking, "POST", "/cancel/replacement", "booking.cancelled")


async def initiate(house: RunningHouse) -> Call:
    booking = await house.reserve(house.network.bus(), ["1A"])
    return Call(
        method="POST",
        path="/api/payments/initiate",
        body={"bookingId": booking["bookingId"], "paymentMethod": "CARD"},
        headers=holder(booking),
        times=(
            "SELECT count(*) FROM payment WHERE booking_id = %s AND state <> 'failed'",
            (booking["bookingId"],),
        ),
    )


# ---------------------------------------------------------------- staff


async def refund(house: RunningHouse) -> Call:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    return Call(
        method="POST",
        path=f"/api/payments/{payment['paymentId']}/refund",
        body={"amount": STANDARD_UGX // 3, "reason": "The bus was late."},
        headers=await staff_headers(house),
        times=("SELECT count(*) FROM refund WHERE booking_id = %s", (booking["bookingId"],)),
    )


async def accept(house: RunningHouse) -> Call:
    booking, payment = await _short(house)
    return await _review(house, booking, payment, "accept", "payment.accepted")


async def send_back(house: RunningHouse) -> Call:
    booking, payment = await _short(house)
    return await _review(house, booking, payment, "refund", "payment.sent_back")


async def take_cash(house: RunningHouse) -> Call:
    booking, payment = await _at_counter(house)
    return Call(
        method="POST",
        path=f"/api/payments/{payment['paymentId']}/cash",
        body=_cash(payment),
        headers=await staff_headers(house, "operator_staff", "pearl"),
        times=("SELECT count(*) FROM cash_receipt WHERE booking_id = %s", (booking["bookingId"],)),
    )


async def hand_out_cash(house: RunningHouse) -> Call:
    booking, payment = await _at_counter(house)
    admin = await staff_headers(house)
    path = f"/api/payments/{payment['paymentId']}"
    for verb, body in (("cash", _cash(payment)), ("refund", {"reason": "The bus was late."})):
        answer = await house.api.post(f"{path}/{verb}", json=body, headers=admin)
        assert answer.is_success, answer.text
    [owed] = await house.refunds_until(booking, "pending")
    return Call(
        method="POST",
        path=f"/api/refunds/{owed['id']}/cash",
        body={"counter": "Kampala 1"},
        headers=admin,
        times=("SELECT count(*) FROM cash_handout WHERE booking_id = %s", (booking["bookingId"],)),
    )


async def inspect(house: RunningHouse) -> Call:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    (ticket,) = await house.tickets(booking)
    return Call(
        method="POST",
        path="/api/tickets/verify",
        body={"token": ticket["token"], "tripId": booking["tripId"], "where": "Gate 1"},
        headers=await staff_headers(house, "operator_staff", "pearl"),
        times=_audited(booking["bookingId"], "ticket.used"),
    )


# ---------------------------------------------------------------- waiting rooms


async def take_place(house: RunningHouse) -> Call:
    """A number that nobody has heard of is worth nothing, and the one behind it is as good."""
    trip = house.network.bus()
    room = NewRoom(
        id=new_id(), name=ROOM, rate_per_second=1000.0, burst=1000, window_seconds=600, opens_at=None, trips=[trip]
    )
    await house.box.db.run(lambda tx: waiting.open_room(tx, room=room))
    path = f"/api/trips/{trip}/place"
    # Servers look for rooms every other second.
    await until(lambda: house.api.post(path), lambda answer: answer.status_code == 201, every_seconds=0.1)
    given = await house.box.value("SELECT next_number FROM waiting_room WHERE id = %s", room.id)
    return Call(
        method="POST",
        path=path,
        times=("SELECT next_number - %s FROM waiting_room WHERE id = %s", (given, room.id)),
        is_the_same_again=True,
    )


async def close_rooms(house: RunningHouse) -> None:
    """Let nobody wait before the trips of these calls any more."""
    for row in await house.box.rows("SELECT id FROM waiting_room WHERE closed_at IS NULL AND name = %s", ROOM):
        await house.box.db.run(lambda tx, room=row["id"]: waiting.close_room(tx, room=room))  # type: ignore[misc]


RECIPES: dict[str, tuple[Recipe, ...]] = {
    "POST /api/bookings/reserve": (reserve,),
    "POST /api/bookings/{booking_id}/extend": (extend,),
    "DELETE /api/bookings/{booking_id}/hold": (release,),
    "PUT /api/bookings/{booking_id}/passengers": (name_passengers,),
    "POST /api/bookings/{booking_id}/seats": (swap_held, swap_paid),
    "POST /api/bookings/{booking_id}/cancel": (cancel_hold, cancel_whole, cancel_part),
    "POST /api/bookings/{booking_id}/cancel/replacement": (decline_replacement,),
    "POST /api/payments/initiate": (initiate,),
    "POST /api/payments/{payment_id}/refund": (refund,),
    "POST /api/payments/{payment_id}/review": (accept, send_back),
    "POST /api/payments/{payment_id}/cash": (take_cash,),
    "POST /api/refunds/{refund_id}/cash": (hand_out_cash,),
    "POST /api/tickets/verify": (inspect,),
    "POST /api/trips/{trip_id}/place": (take_place,),
}


def _audited(subject: str | UUID, action: str) -> tuple[str, tuple[Any, ...]]:
    return "SELECT count(*) FROM audit_event WHERE subject_id = %s AND action = %s", (subject, action)


def _of(booking: JsonObject, method: str, path: str, action: str, **more: Any) -> Call:
    """A call of a booking's holder."""
    return Call(
        method=method,
        path=f"/api/bookings/{booking['bookingId']}{path}",
        headers=holder(booking),
        times=_audited(booking["bookingId"], action),
        **more,
    )


async def _short(house: RunningHouse) -> tuple[JsonObject, JsonObject]:
    """A booking for which too little was paid."""
    booking = await house.reserve(house.network.shuttle(), ["1A"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=SHUTTLE_UGX - 1000)
    await house.payment_until(payment, "REVIEW")
    return booking, payment


async def _review(house: RunningHouse, booking: JsonObject, payment: JsonObject, action: str, noted: str) -> Call:
    return Call(
        method="POST",
        path=f"/api/payments/{payment['paymentId']}/review",
        body={"action": action, "reason": "Agreed by phone."},
        headers=await staff_headers(house, "platform_finance"),
        times=_audited(booking["bookingId"], noted),
    )


async def _at_counter(house: RunningHouse) -> tuple[JsonObject, JsonObject]:
    booking = await house.reserve(house.network.bus(), ["1A"])
    return booking, await house.initiate(booking, paymentMethod="CASH")


def _cash(payment: JsonObject) -> JsonObject:
    return {"amount": payment["total"], "currency": payment["currency"], "counter": "Kampala 1"}
