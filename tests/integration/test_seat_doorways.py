"""Seats through the doors: the holder's over the API, staff's from the command line."""

from typing import Any

from tests.house import JsonObject, RunningHouse, holder
from tests.staff import staff_headers


async def change(house: RunningHouse, booking: JsonObject, *swaps: tuple[str, str], **more: Any) -> Any:
    return await house.api.post(
        f"/api/bookings/{booking['bookingId']}/seats",
        json={"swaps": [{"from": old, "to": new} for old, new in swaps], **more},
        headers=holder(booking),
    )


async def test_the_holder_changes_seats_over_the_api(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, _ = await house.buy(trip, ["1A", "1B"])
    (old, _) = await house.tickets(booking)
    answer = await change(house, booking, ("1a", "2A"), tripId=str(trip))
    assert answer.status_code == 200, answer.text
    assert answer.json()["seatNumbers"] == ["2A", "1B"]
    assert answer.json()["status"] == "CONFIRMED"
    found = await house.tickets(booking)
    assert [ticket["seatNumber"] for ticket in found] == ["2A", "1B"]
    results = []
    for token in (old["token"], found[0]["token"]):
        body = {"token": token, "tripId": str(trip)}
        verdict = await house.api.post("/api/tickets/verify", json=body, headers=await staff_headers(house))
        results.append(verdict.json()["result"])
    assert results == ["VOID", "VALID"]
    boarded = await change(house, booking, ("1B", "3B"))
    assert boarded.status_code == 200
    await house.is_well()


async def test_changes_that_cannot_be_are_told_as_problems(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking, other = await house.reserve(trip, ["1A"]), await house.reserve(trip, ["2A"])
    taken = await change(house, booking, ("1A", "2A"))
    assert (taken.status_code, taken.json()["code"], taken.json()["seatNumbers"]) == (409, "CONFLICT", ["2A"])
    assert (await change(house, booking, ("1A", "3A"), ("1A", "3B"))).status_code == 422
    assert (await change(house, booking)).status_code == 422
    assert (await change(house, booking, ("1A", "99Z"))).status_code == 422
    foreign = await change(house, {**booking, "holdToken": other["holdToken"]}, ("1A", "3A"))
    assert foreign.status_code == 403
    missing = await house.api.post(f"/api/bookings/{booking['bookingId']}/seats", json={"swaps": []})
    assert missing.status_code in {401, 422}
    await house.api.delete(f"/api/bookings/{booking['bookingId']}/hold", headers=holder(booking))
    over = await change(house, booking, ("1A", "3A"))
    assert (over.status_code, over.json()["code"]) == (409, "CONFLICT")


async def test_staff_look_after_seats_from_the_command_line(house: RunningHouse) -> None:
    trip, later = house.network.bus(), house.network.bus()
    booking = await house.reserve(trip, ["1A", "1B"], passengers=[{"name": "Amina"}, {"name": "Baraka"}])
    reference = booking["reference"].lower()

    code, said = await house.kiti("bookings", "swap", reference, "1a=5A", "--trip", str(trip))
    assert (code, "5A" in said, "Amina" in said) == (0, True, True), said
    code, said = await house.kiti(
        *("bookings", "move", reference, "--from-trip", str(trip), "--to-trip", str(later)),
        *("--seats", "3a, 3b", "--reason", "Another bus"),
    )
    assert code == 0, said
    assert (await house.booking(booking))["seatNumbers"] == ["3A", "3B"]

    code, said = await house.kiti("seats", "block", str(later), "7a", "7B", "--reason", "Broken", "--to", "MBR")
    assert code == 0, said
    block = said.split()[-1].rstrip(".")
    code, said = await house.kiti("seats", "held", str(later))
    assert code == 0, said
    table = {line.split()[0]: line for line in said.splitlines()}
    assert f"{booking['reference']} (held)" in table["3A"]
    assert table["7A"].split()[1:5] == ["KLA", "MBR", "for", "ever"]
    assert "blocked: Broken" in table["7B"]
    code, said = await house.kiti("seats", "blocks", str(later))
    assert (code, block in said, "Broken" in said) == (0, True, True), said
    assert (await house.ask_to_reserve(later, ["7A"])).status_code == 409

    assert (await house.kiti("seats", "unblock", str(later), block))[0] == 0
    assert (await house.ask_to_reserve(later, ["7A"])).status_code == 201
    assert "Nothing is blocked" in (await house.kiti("seats", "blocks", str(later)))[1]
    assert "Nobody has a seat" in (await house.kiti("seats", "held", str(trip)))[1]


async def test_commands_that_cannot_be_obeyed_say_why(house: RunningHouse) -> None:
    trip = house.network.bus()
    booking = await house.reserve(trip, ["1A"])
    for arguments, expected, sentence in (
        (("bookings", "swap", "ZZZZZZ", "1A=2A"), 1, "No booking has the reference ZZZZZZ"),
        (("bookings", "swap", booking["reference"], "1A2A"), 2, "Write 1A=2A"),
        (("bookings", "swap", booking["reference"], "1A=2A", "1A=2B"), 2, "stands twice"),
        (("seats", "block", str(trip), "1A", "--reason", "Broken"), 1, "Somebody has 1A"),
        (("seats", "block", str(trip), "2A", "--reason", " "), 1, "Say why"),
        (("seats", "unblock", str(trip), booking["bookingId"]), 1, "no such block"),
    ):
        code, said = await house.kiti(*arguments)
        assert code == expected, said
        assert sentence in said
