"""What may be paid with what: said on the command line, obeyed by API and pages; and gateways that rest."""

from collections.abc import AsyncIterator

import pytest
from tests.house import JsonObject, RunningHouse, holder, until


@pytest.fixture
async def talkative(house: RunningHouse) -> AsyncIterator[RunningHouse]:
    """The house; whatever was said in it is forgotten afterwards."""
    yield house
    await house.box.rows("DELETE FROM payment_option")


async def methods(house: RunningHouse, booking: JsonObject) -> list[tuple[str, list[str]]]:
    """What can be paid through Flutterwave v3."""
    answer = await house.api.get(
        "/api/payments/methods", params={"bookingId": booking["bookingId"]}, headers=holder(booking)
    )
    assert answer.status_code == 200, answer.text
    return [(one["method"], one["channels"]) for one in answer.json()["methods"] if one["gateway"] == "flutterwave"]


async def test_the_holder_is_told_how_a_booking_can_be_paid(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    query = {"bookingId": booking["bookingId"]}
    answer = await house.api.get("/api/payments/methods", params=query, headers=holder(booking))
    told = answer.json()
    assert (told["bookingId"], told["currency"]) == (booking["bookingId"], "KES")
    assert told["methods"][:2] == [
        {"method": "CARD", "gateway": "flutterwave", "channels": ["HOSTED"], "phonePrefixes": []},
        {
            "method": "MOBILE_MONEY",
            "gateway": "flutterwave",
            "channels": ["HOSTED", "DIRECT"],
            "phonePrefixes": ["+254"],
        },
    ]
    assert told["methods"][-1] == {"method": "CASH", "gateway": "cash", "channels": [], "phonePrefixes": []}
    assert (await house.api.get("/api/payments/methods", params=query)).status_code == 401
    other = await house.reserve(house.network.lake(), 1)
    assert (await house.api.get("/api/payments/methods", params=query, headers=holder(other))).status_code == 403


async def test_what_is_said_on_the_command_line_is_obeyed_until_it_is_taken_back(talkative: RunningHouse) -> None:
    house = talkative
    code, said = await house.kiti("payments", "options", "add", "kes", "card", "flutterwave", "--operator", "lake")
    assert (code, said.strip()) == (0, "CARD in KES through flutterwave is on.")
    kenyan, ugandan = await house.reserve(house.network.lake(), 1), await house.reserve(house.network.bus(), 1)
    assert await methods(house, kenyan) == [("CARD", ["HOSTED"])]
    assert (await house.ask_to_pay(kenyan, paymentMethod="CASH")).status_code == 422
    assert [method for method, _ in await methods(house, ugandan)] == ["CARD", "MOBILE_MONEY"]
    refused = await house.ask_to_pay(kenyan, paymentMethod="MOBILE_MONEY")
    assert refused.status_code == 422
    assert "only with CARD" in refused.json()["errors"][0]["message"]
    code, said = await house.kiti("payments", "options", "list")
    assert code == 0
    option, _, rest = said.strip().partition("  ")
    assert rest == "KES CARD flutterwave, lake, from anywhere, priority 100: on"
    assert (await house.kiti("payments", "options", "remove", option))[0] == 0
    assert len(await methods(house, kenyan)) == 2
    assert (await house.kiti("payments", "options", "remove", option))[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("UGX", "ussd", "flutterwave"), "does not take USSD in UGX"),
        (("UGX", "card", "nobody"), "There is no gateway"),
        (("UGX", "card", "flutterwave", "--operator", "nobody"), "There is no operator"),
        (("U", "card", "flutterwave"), "no code of 3 letters"),
        (("UGX", "card", "flutterwave", "--country", "Uganda"), "no code of 2 letters"),
    ],
)
async def test_nonsense_is_not_said(talkative: RunningHouse, arguments: tuple[str, ...], said: str) -> None:
    code, output = await talkative.kiti("payments", "options", "add", *arguments)
    assert code != 0
    assert said in output
    assert await talkative.box.value("SELECT count(*) FROM payment_option") == 0


async def test_where_the_journey_begins_decides_and_a_booking_of_two_operators_needs_both(
    talkative: RunningHouse,
) -> None:
    house = talkative
    bus, shuttle = house.network.bus(), house.network.shuttle()
    answer = await house.api.post(
        "/api/bookings/reserve",
        json={"items": [{"tripId": str(bus), "seatCount": 1}, {"tripId": str(shuttle), "seatCount": 1}]},
    )
    both = answer.json()
    put = (
        "INSERT INTO payment_option (id, operator_id, currency, country, method, gateway, is_on)"
        " SELECT gen_random_uuid(), (SELECT id FROM operator WHERE code = %s), 'UGX', %s, %s, 'flutterwave', %s"
    )
    await house.box.rows(put, "lake", None, "MOBILE_MONEY", True)
    assert [method for method, _ in await methods(house, both)] == ["MOBILE_MONEY"]
    alone = await house.reserve(house.network.bus(), 1)
    assert [method for method, _ in await methods(house, alone)] == ["CARD", "MOBILE_MONEY"]
    country = await house.box.value("SELECT country FROM stop WHERE code = 'KLA'")
    await house.box.rows(put, "pearl", country, "MOBILE_MONEY", False)
    await house.box.rows(put, "pearl", "ZZ", "CARD", False)
    assert await methods(house, both) == []
    assert [method for method, _ in await methods(house, alone)] == ["CARD"]


@pytest.mark.parametrize(("method", "option"), [("BANK_TRANSFER", "banktransfer"), ("USSD", "ussd")])
async def test_bank_transfer_and_ussd_are_paid_on_the_gateways_page(
    house: RunningHouse, method: str, option: str
) -> None:
    booking = await house.reserve(house.network.lake(), 1)
    await house.box.rows("UPDATE booking SET currency = 'NGN' WHERE id = %s", booking["bookingId"])
    assert [name for name, _ in await methods(house, booking)] == ["CARD", "BANK_TRANSFER", "USSD"]
    payment = await house.initiate(booking, paymentMethod=method)
    [link] = (await house.sim.state(payment))["links"]
    assert (link["payment_options"], link["currency"]) == (option, "NGN")
    page = await house.sim.http.get(payment["paymentUrl"])
    assert "Mobile money" not in page.text
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    assert (await house.payment(payment))["method"] == method


async def test_a_gateway_is_asked_what_it_would_keep(house: RunningHouse) -> None:
    asked = ("payments", "fee", "--amount", "150000", "--currency", "kes")
    code, said = await house.kiti(*asked)
    assert (code, said.strip()) == (0, "flutterwave keeps 4350 of 150000 KES (minor units).")
    code, said = await house.kiti(*asked, "--gateway", "cash")
    assert code == 1
    assert "does not tell its fees beforehand" in said


async def test_a_gateway_that_rests_is_not_asked_and_no_attempt_stays_open(own_house: RunningHouse) -> None:
    house = own_house
    trip = house.network.bus()
    first = await house.reserve(trip, 1)
    standing = await house.initiate(first)
    await house.sim.api_fault(match="*", http_status=500)
    for _ in range(5):
        asked = await house.ask_to_pay(await house.reserve(trip, 1), gateway="flutterwave")
        assert asked.status_code == 504
    last = await house.reserve(trip, 1)
    for channel in ({}, {"paymentMethod": "MOBILE_MONEY", "channel": "DIRECT", "phoneNumber": "+256772123456"}):
        answer = await house.ask_to_pay(last, gateway="flutterwave", **channel)
        assert (answer.status_code, answer.json()["code"]) == (502, "PAYMENT_ERROR")
    assert await house.box.value("SELECT count(*) FROM payment WHERE booking_id = %s", last["bookingId"]) == 0
    assert (await house.booking(last))["status"] == "HELD"
    again = await house.ask_to_pay(first, gateway="flutterwave")
    assert (again.status_code, again.json()["paymentId"]) == (200, standing["paymentId"]), "a page that is open stays"
    await house.sim.behave()

    async def ask() -> JsonObject:
        answer = await house.ask_to_pay(last, gateway="flutterwave")
        return {**answer.json(), "http": answer.status_code}

    found = await until(ask, lambda told: told["http"] == 201, every_seconds=0.5)
    await house.sim.pay(found)
    await house.booking_until(last, "CONFIRMED")
