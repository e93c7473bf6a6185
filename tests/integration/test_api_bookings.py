"""The contract of reserving and paying, field by field."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from tests.house import JsonObject, RunningHouse, holder
from tests.network import FIRST_LEG_UGX, LAKE_KES, SECOND_LEG_UGX, SHUTTLE_UGX, STANDARD_UGX, VIP_UGX

REFERENCE = re.compile(r"[A-HJKMNP-Z2-9]{6}")


def moment(text: str) -> datetime:
    """An RFC 3339 time in UTC."""
    assert text.endswith("Z"), text
    return datetime.fromisoformat(text)


async def seat_map(house: RunningHouse, trip: UUID, **query: str) -> JsonObject:
    answer = await house.api.get("/api/bookings/reserve", params={"tripId": str(trip), **query})
    assert answer.status_code == 200, answer.text
    found: JsonObject = answer.json()
    return found


def status_of(found: JsonObject, number: str) -> str:
    (seat,) = (seat for seat in found["seats"] if seat["number"] == number)
    return str(seat["status"])


async def test_a_reservation_answers_everything_that_its_holder_needs(house: RunningHouse) -> None:
    trip = house.network.bus()
    answer = await house.ask_to_reserve(trip, ["1B", "1A"], holdDurationMinutes=7)
    assert answer.status_code == 201
    found = answer.json()
    assert UUID(found["bookingId"]).version == 7
    assert REFERENCE.fullmatch(found["reference"])
    assert (found["status"], found["tripId"]) == ("HELD", str(trip))
    assert found["seatNumbers"] == ["1B", "1A"]
    assert (found["amount"], found["currency"]) == (2 * STANDARD_UGX, "UGX")
    assert len(found["holdToken"]) >= 32
    left = moment(found["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=6) < left < timedelta(minutes=8)
    shown = await house.booking(found)
    for name in ("bookingId", "reference", "status", "tripId", "seatNumbers", "amount", "currency", "expiresAt"):
        assert shown[name] == found[name], name


async def test_a_hold_lasts_a_quarter_of_an_hour_unless_another_time_is_asked_for(house: RunningHouse) -> None:
    found = await house.reserve(house.network.bus(), 1)
    left = moment(found["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15, seconds=5)


async def test_the_token_may_stand_in_the_address(house: RunningHouse) -> None:
    found = await house.reserve(house.network.bus(), 1)
    path = f"/api/bookings/{found['bookingId']}"
    assert (await house.api.get(path, params={"token": found["holdToken"]})).status_code == 200


async def test_a_taken_seat_is_a_conflict_that_names_the_taken_seats_only(house: RunningHouse) -> None:
    trip = house.network.bus()
    await house.reserve(trip, ["2A", "2B"])
    answer = await house.ask_to_reserve(trip, ["2B", "3A", "2A"])
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], sorted(problem["seatNumbers"])) == ("CONFLICT", ["2A", "2B"])
    assert status_of(await seat_map(house, trip), "3A") == "AVAILABLE"


async def test_the_seat_map_shows_what_is_free_held_and_sold_on_the_asked_segment(house: RunningHouse) -> None:
    trip = house.network.double()
    held = await house.reserve(trip, ["2A"], **{"from": "KLA", "to": "MBR"})
    await house.buy(trip, ["2B"])
    whole = await seat_map(house, trip)
    assert (whole["tripId"], whole["from"], whole["to"]) == (str(trip), "KLA", "KGL")
    assert len(whole["seats"]) == 20
    assert {name: status_of(whole, name) for name in ("2A", "2B", "2C")} == {
        "2A": "HELD",
        "2B": "BOOKED",
        "2C": "AVAILABLE",
    }
    assert whole["seatsAvailable"] == 18
    vip = next(seat for seat in whole["seats"] if seat["class"] == "VIP")
    assert vip["price"] == {"amount": VIP_UGX, "currency": "UGX"}
    second = await seat_map(house, trip, **{"from": "MBR", "to": "KGL"})
    assert status_of(second, "2A") == "AVAILABLE"
    unsold = [seat for seat in second["seats"] if seat["price"] is None]
    assert {seat["class"] for seat in unsold} == {"VIP"}
    assert second["seatsAvailable"] == 20 - len(unsold) - 1
    await house.api.delete(f"/api/bookings/{held['bookingId']}/hold", headers=holder(held))
    assert status_of(await seat_map(house, trip), "2A") == "AVAILABLE"


async def test_the_seat_map_answers_304_until_something_changes(house: RunningHouse) -> None:
    trip = house.network.bus()
    query = {"tripId": str(trip)}
    first = await house.api.get("/api/bookings/reserve", params=query)
    tag = first.headers["etag"]
    same = await house.api.get("/api/bookings/reserve", params=query, headers={"if-none-match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await house.reserve(trip, ["1A"])
    changed = await house.api.get("/api/bookings/reserve", params=query, headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


async def test_one_seat_is_sold_to_mbarara_and_again_from_it(house: RunningHouse) -> None:
    trip = house.network.bus()
    first, _ = await house.buy(trip, ["1A"], **{"from": "KLA", "to": "MBR"})
    second, _ = await house.buy(trip, ["1A"], **{"from": "MBR", "to": "KGL"})
    assert (first["amount"], second["amount"]) == (FIRST_LEG_UGX, SECOND_LEG_UGX)
    for segment in ({}, {"from": "KLA", "to": "MBR"}, {"from": "MBR", "to": "KGL"}):
        assert (await house.ask_to_reserve(trip, ["1A"], **segment)).status_code == 409
    (ticket,) = await house.tickets(second)
    assert (ticket["from"], ticket["to"]) == ("MBR", "KGL")


async def test_a_journey_over_two_trips_is_one_booking_all_or_nothing(house: RunningHouse) -> None:
    bus, shuttle = house.network.bus(), house.network.shuttle()
    items = [
        {"tripId": str(bus), "seatNumbers": ["1A"], "from": "KLA", "to": "MBR"},
        {"tripId": str(shuttle), "seatCount": 1},
    ]
    answer = await house.api.post("/api/bookings/reserve", json={"items": items, "passengers": [{"name": "Amina"}]})
    assert answer.status_code == 201, answer.text
    booking = answer.json()
    assert booking["amount"] == FIRST_LEG_UGX + SHUTTLE_UGX
    assert [(item["tripId"], item["from"], item["to"]) for item in booking["items"]] == [
        (str(bus), "KLA", "MBR"),
        (str(shuttle), "KLA", "EBB"),
    ]
    shown = await house.booking(booking)
    assert [passenger["name"] for passenger in shown["passengers"]] == ["Amina", "Amina"]
    payment = await house.initiate(booking)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert {ticket["tripId"] for ticket in await house.tickets(booking)} == {str(bus), str(shuttle)}
    liable = await house.box.rows(
        "SELECT credit, amount FROM transfer WHERE booking_id = %s AND credit LIKE 'ticket_liability:%%'",
        booking["bookingId"],
    )
    assert sorted(row["amount"] for row in liable) == [SHUTTLE_UGX, FIRST_LEG_UGX]


async def test_a_journey_of_which_one_seat_is_taken_reserves_nothing(house: RunningHouse) -> None:
    bus, shuttle = house.network.bus(), house.network.shuttle()
    taken = house.network.shuttle_line.seats[0]
    await house.reserve(shuttle, [taken])
    items = [{"tripId": str(bus), "seatNumbers": ["1A"]}, {"tripId": str(shuttle), "seatNumbers": [taken]}]
    answer = await house.api.post("/api/bookings/reserve", json={"items": items})
    assert (answer.status_code, answer.json()["seatNumbers"]) == (409, [taken])
    assert status_of(await seat_map(house, bus), "1A") == "AVAILABLE"


async def test_trips_in_two_currencies_are_no_one_booking(house: RunningHouse) -> None:
    lake = house.network.lake()
    items = [{"tripId": str(trip), "seatCount": 1} for trip in (house.network.bus(), lake)]
    answer = await house.api.post("/api/bookings/reserve", json={"items": items})
    assert (answer.status_code, answer.json()["code"]) == (422, "VALIDATION_ERROR")
    alone = await house.reserve(lake, 1)
    assert (alone["amount"], alone["currency"]) == (LAKE_KES, "KES")
    payment = await house.initiate(alone, paymentMethod="MOBILE_MONEY")
    (link,) = (await house.sim.state(payment))["links"]
    assert (link["amount"], link["currency"]) == (1500, "KES"), "KES 1,500.00 in major units"


async def test_seats_that_the_system_picks_are_next_to_each_other(house: RunningHouse) -> None:
    trip = house.network.bus()
    pair = (await house.reserve(trip, 2))["seatNumbers"]
    assert len({number[:-1] for number in pair}) == 1, pair
    assert abs(ord(pair[0][-1]) - ord(pair[1][-1])) == 1


async def test_a_hold_can_be_extended_up_to_an_hour_and_released(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"], holdDurationMinutes=1)
    path = f"/api/bookings/{booking['bookingId']}"
    longer = await house.api.post(f"{path}/extend", json={"holdDurationMinutes": 30}, headers=holder(booking))
    assert longer.status_code == 200
    assert moment(longer.json()["expiresAt"]) > moment(booking["expiresAt"]) + timedelta(minutes=28)
    bare = await house.api.post(f"{path}/extend", headers=holder(booking))
    assert (bare.status_code, bare.json()["expiresAt"]) == (200, longer.json()["expiresAt"])
    capped = "UPDATE booking SET hold_cap_at = kiti_now() + interval '31 minutes' WHERE id = %s RETURNING hold_cap_at"
    cap = await house.box.value(capped, booking["bookingId"])
    await house.box.rows("UPDATE booking SET hold_cap_at = hold_expires_at WHERE id = %s", booking["bookingId"])
    most = await house.api.post(f"{path}/extend", json={"holdDurationMinutes": 30}, headers=holder(booking))
    assert moment(most.json()["expiresAt"]) <= cap
    for _ in range(2):
        released = await house.api.delete(f"{path}/hold", headers=holder(booking))
        assert (released.status_code, released.json()["status"]) == (200, "CANCELLED")
    refused = await house.api.post(f"{path}/extend", headers=holder(booking))
    assert (refused.status_code, refused.json()["code"]) == (409, "CONFLICT")


async def test_a_hold_that_is_over_frees_its_seat_without_any_cleaner(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A"])
    over = "UPDATE {} SET {} = kiti_now() - interval '1 second' WHERE {} = %s"
    await house.box.rows(over.format("booking", "hold_expires_at", "id"), booking["bookingId"])
    await house.box.rows(over.format("seat_claim", "expires_at", "owner_id"), booking["bookingId"])
    assert (await house.booking(booking))["status"] == "EXPIRED"
    assert status_of(await seat_map(house, trip), "1A") == "AVAILABLE"
    extended = await house.api.post(f"/api/bookings/{booking['bookingId']}/extend", headers=holder(booking))
    assert extended.status_code == 409
    await house.reserve(trip, ["1A"])
    swept = await house.job("expire-seats")
    assert swept["processed"] >= 1
    assert (await house.booking(booking))["status"] == "EXPIRED"


async def test_passengers_are_named_until_the_tickets_are_made(house: RunningHouse) -> None:
    booking = await house.reserve(
        house.network.bus(),
        ["1A", "1B"],
        passengers=[{"name": "  Amina   Nakato ", "seatNumber": "1B"}, {"name": "Baraka"}],
        contact={"name": "Amina", "email": "amina@example.com", "phone": "+256 772 123456"},
    )
    shown = await house.booking(booking)
    assert {p["seatNumber"]: p["name"] for p in shown["passengers"]} == {"1A": "Baraka", "1B": "Amina Nakato"}
    assert shown["contact"] == {"name": "Amina", "email": "amina@example.com", "phone": "+256772123456"}
    path = f"/api/bookings/{booking['bookingId']}/passengers"
    body = {"passengers": [{"seatNumber": "1A", "name": "Chandra"}]}
    assert (await house.api.put(path, json=body, headers=holder(booking))).status_code == 200
    payment = await house.initiate(booking)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    names = {ticket["seatNumber"]: ticket["passengerName"] for ticket in await house.tickets(booking)}
    assert names == {"1A": "Chandra", "1B": "Amina Nakato"}
    late = await house.api.put(path, json=body, headers=holder(booking))
    assert (late.status_code, late.json()["code"]) == (409, "CONFLICT")


async def test_a_payment_answers_its_page_and_its_progress(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), 1, holdDurationMinutes=1)
    answer = await house.ask_to_pay(booking, amount=STANDARD_UGX, currency="ugx")
    assert answer.status_code == 201
    opened = answer.json()
    assert opened["paymentUrl"].startswith("http")
    assert opened["status"] == "PENDING"
    assert (opened["amount"], opened["fee"], opened["total"], opened["currency"]) == (
        STANDARD_UGX,
        0,
        STANDARD_UGX,
        "UGX",
    )
    assert moment(opened["expiresAt"]) > moment(booking["expiresAt"])
    held = await house.booking(booking)
    assert (held["status"], held["paymentStatus"]) == ("AWAITING_PAYMENT", "PENDING")
    again = await house.ask_to_pay(booking)
    assert (again.status_code, again.json()["paymentId"]) == (200, opened["paymentId"])
    pending = await house.payment(opened)
    assert pending["bookingId"] == booking["bookingId"]
    assert (pending["gateway"], pending["method"], pending["refundedAmount"]) == ("flutterwave", "CARD", 0)
    assert "failureReason" not in pending
    by_reference = await house.api.get("/api/payments/status", params={"reference": opened["reference"]})
    assert by_reference.json() == pending
    await house.sim.pay(opened)
    done = await house.payment_until(opened, "COMPLETED")
    assert done["total"] == STANDARD_UGX
    confirmed = await house.booking(booking)
    assert (confirmed["status"], confirmed["paymentStatus"], confirmed["expiresAt"]) == ("CONFIRMED", "COMPLETED", None)
    assert moment(confirmed["confirmedAt"]) >= moment(confirmed["createdAt"])


@pytest.mark.parametrize("method", ["CARD", "MOBILE_MONEY"])
async def test_the_gateway_is_asked_for_exactly_what_is_due(house: RunningHouse, method: str) -> None:
    booking = await house.reserve(house.network.bus(), 2)
    payment = await house.initiate(
        booking, paymentMethod=method, phoneNumber="+256772123456", contact={"email": "amina@example.com"}
    )
    (link,) = (await house.sim.state(payment))["links"]
    assert (link["tx_ref"], link["amount"], link["currency"]) == (payment["paymentId"], 2 * STANDARD_UGX, "UGX")
    assert link["customer"]["email"] == "amina@example.com"
    assert link["customer"]["phonenumber"] == "+256772123456"
    assert link["redirect_url"].startswith(house.base_url)


async def test_a_confirmed_booking_is_completed_once_its_trip_has_arrived(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    await house.job("expire-seats")
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    arrived = "UPDATE booking SET arrives_at = kiti_now() - interval '1 minute' WHERE id = %s"
    await house.box.rows(arrived, booking["bookingId"])
    await house.job("expire-seats")
    assert (await house.booking(booking))["status"] == "COMPLETED"
    assert len(await house.tickets(booking)) == 1
