"""Cash at a counter: taken once, settled like all other money, handed back once."""

import asyncio
from datetime import datetime
from uuid import uuid4

import httpx
import pytest
from tests.house import JsonObject, RunningHouse, holder
from tests.network import STANDARD_UGX
from tests.staff import bearer, employ, staff_headers

from kiti.people.model import Role

Headers = dict[str, str]


async def at_counter(house: RunningHouse, *seats: str) -> tuple[JsonObject, JsonObject]:
    """A booking that is to be paid at a counter, and its attempt."""
    booking = await house.reserve(house.network.bus(), list(seats) or ["1A"])
    return booking, await house.initiate(booking, paymentMethod="CASH")


async def press(house: RunningHouse, payment: JsonObject, clerk: Headers, **changes: object) -> httpx.Response:
    body = {"amount": payment["total"], "currency": payment["currency"], "counter": "Kampala 1", **changes}
    return await house.api.post(f"/api/payments/{payment['paymentId']}/cash", json=body, headers=clerk)


async def hand_out(house: RunningHouse, refund: JsonObject, clerk: Headers) -> httpx.Response:
    return await house.api.post(f"/api/refunds/{refund['id']}/cash", json={"counter": "Kampala 1"}, headers=clerk)


async def receipts(house: RunningHouse, booking: JsonObject) -> list[JsonObject]:
    return await house.box.rows("SELECT * FROM cash_receipt WHERE booking_id = %s", booking["bookingId"])


async def in_the_till(house: RunningHouse, booking: JsonObject) -> int:
    """What the ledger says of the till below one booking."""
    found = await house.box.value(
        "SELECT coalesce(sum(CASE WHEN debit = 'gateway_clearing:cash' THEN amount ELSE -amount END), 0)::bigint"
        " FROM transfer WHERE booking_id = %s AND 'gateway_clearing:cash' IN (debit, credit)",
        booking["bookingId"],
    )
    return int(found)


async def test_cash_buys_the_tickets_and_lies_in_the_till(house: RunningHouse) -> None:
    booking, payment = await at_counter(house, "1A", "1B")
    assert (payment["status"], payment["paymentUrl"]) == ("PENDING", None)
    assert payment["counterReference"] == booking["reference"]
    clerk = await staff_headers(house, "operator_staff", "pearl")
    answer = await press(house, payment, clerk)
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert receipt["receiptNumber"] == f"{booking['reference']}-1"
    assert (receipt["status"], receipt["bookingStatus"]) == ("COMPLETED", "CONFIRMED")
    assert len(await house.tickets(booking)) == 2
    assert await in_the_till(house, booking) == payment["total"]
    await house.is_well()


async def test_an_attempt_in_cash_ends_with_the_hold_and_keeps_nobody_waiting(own_house: RunningHouse) -> None:
    booking, payment = await at_counter(own_house)
    found = await own_house.booking(booking)
    ends, hold_ends = (datetime.fromisoformat(one["expiresAt"]) for one in (payment, found))
    assert abs((ends - hold_ends).total_seconds()) < 1
    await own_house.box.travel(minutes=21)
    await own_house.poll(payment)
    assert (await own_house.payment(payment))["status"] == "EXPIRED"
    assert (await own_house.booking(booking))["status"] == "EXPIRED"
    other = await own_house.reserve(own_house.network.bus(), ["1B"])
    assert other["status"] == "HELD"


@pytest.mark.parametrize("changes", [{"amount": 1}, {"currency": "KES"}, {"amount": -60_000}], ids=str)
async def test_an_amount_that_is_not_due_is_not_taken(house: RunningHouse, changes: dict[str, object]) -> None:
    booking, payment = await at_counter(house)
    answer = await press(house, payment, await staff_headers(house), **changes)
    assert answer.status_code == 422, answer.text
    assert await receipts(house, booking) == []


async def test_only_those_who_may_take_cash_of_their_own_operator_do(house: RunningHouse) -> None:
    booking, payment = await at_counter(house)
    assert (await press(house, payment, {})).status_code == 401
    assert (await press(house, payment, holder(booking))).status_code == 401
    strangers: list[tuple[Role, str | None]] = [
        ("operator_finance", "pearl"),
        ("platform_finance", None),
        ("operator_staff", "lake"),
    ]
    for role, operator in strangers:
        answer = await press(house, payment, await staff_headers(house, role, operator))
        assert answer.status_code == 403, answer.text
    assert await receipts(house, booking) == []
    assert (await press(house, payment, await staff_headers(house, "platform_admin"))).status_code == 201


async def test_of_two_clerks_who_press_at_once_one_is_told_that_it_is_taken(house: RunningHouse) -> None:
    booking, payment = await at_counter(house)
    clerks = [await staff_headers(house, "operator_staff", "pearl") for _ in range(4)]
    answers = await asyncio.gather(*(press(house, payment, clerk) for clerk in clerks for _ in range(2)))
    by_status = [answer.status_code for answer in answers]
    assert by_status.count(409) == 6, by_status
    assert sorted(status for status in by_status if status != 409) == [200, 201]
    assert len(await receipts(house, booking)) == 1
    assert [charge["amount"] for charge in await house.charges(booking)] == [payment["total"]]
    assert await in_the_till(house, booking) == payment["total"]


async def test_a_clerk_who_presses_again_gets_the_same_receipt(house: RunningHouse) -> None:
    _, payment = await at_counter(house)
    clerk = await staff_headers(house)
    first, second = await press(house, payment, clerk), await press(house, payment, clerk)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


async def test_a_receipt_that_nobody_settled_is_found_by_the_poller(house: RunningHouse) -> None:
    booking, payment = await at_counter(house)
    clerk = await employ(house.box.db, "operator_staff", "pearl")
    # What stands when the machine dies between the receipt's transaction and the next line.
    await house.box.rows(
        "WITH due AS (UPDATE payment SET poll_after = kiti_now() WHERE id = %s)"
        " INSERT INTO cash_receipt (booking_id, id, payment_id, number, amount, currency, staff_id, counter, taken_at)"
        " SELECT %s, %s, %s, %s, %s, 'UGX', staff.id, '', kiti_now() FROM staff WHERE email = %s",
        *(payment["paymentId"], booking["bookingId"], uuid4(), payment["paymentId"]),
        *(f"{booking['reference']}-1", payment["total"], clerk.email),
    )
    await house.job("poll-payments")
    assert (await house.booking_until(booking, "CONFIRMED"))["status"] == "CONFIRMED"
    again = await press(house, payment, await bearer(house, clerk))
    assert again.status_code == 200
    assert await in_the_till(house, booking) == payment["total"]


async def test_a_server_that_is_killed_while_it_takes_cash_loses_none(own_house: RunningHouse) -> None:
    bookings = [await at_counter(own_house, seat) for seat in ("1A", "1B", "2A", "2B")]
    clerk = await staff_headers(own_house)
    presses = [asyncio.create_task(press(own_house, payment, clerk)) for _, payment in bookings]
    await asyncio.sleep(0.02)
    own_house.kill9()
    await asyncio.gather(*presses, return_exceptions=True)
    await own_house.restart()
    for booking, payment in bookings:
        if not await receipts(own_house, booking):
            continue
        await own_house.poll(payment)
        await own_house.booking_until(booking, "CONFIRMED")
        assert await in_the_till(own_house, booking) == payment["total"]
    await own_house.is_well()


async def test_cash_for_a_hold_that_has_just_ended_gets_the_seats_if_they_are_free(own_house: RunningHouse) -> None:
    booking, payment = await at_counter(own_house)
    clerk = await employ(own_house.box.db, "operator_staff", "pearl")
    await own_house.box.travel(minutes=21)
    await own_house.poll(payment)
    answer = await press(own_house, payment, await bearer(own_house, clerk))
    assert answer.status_code == 201, answer.text
    assert answer.json()["bookingStatus"] == "CONFIRMED"
    assert len(await own_house.tickets(booking)) == 1
    await own_house.is_well()


async def test_cash_for_seats_that_somebody_else_has_now_is_owed_back(own_house: RunningHouse) -> None:
    trip = own_house.network.bus()
    late = await own_house.reserve(trip, ["1A"])
    payment = await own_house.initiate(late, paymentMethod="CASH")
    await own_house.box.travel(minutes=21)
    await own_house.buy(trip, ["1A"])
    clerk = await staff_headers(own_house)
    answer = await press(own_house, payment, clerk)
    assert answer.status_code == 201, answer.text
    assert answer.json()["bookingStatus"] == "EXPIRED"
    [refund] = await own_house.refunds_until(late, "pending")
    assert await in_the_till(own_house, late) == payment["total"]
    handed = await hand_out(own_house, refund, clerk)
    assert (handed.status_code, handed.json()["status"]) == (200, "COMPLETED")
    assert await in_the_till(own_house, late) == 0
    assert (await own_house.payment(payment))["status"] == "REFUNDED"
    await own_house.is_well()


async def test_cash_on_top_of_a_payment_by_card_is_refused_before_it_is_taken(house: RunningHouse) -> None:
    booking, cash = await at_counter(house)
    card = await house.initiate(booking, paymentMethod="CARD")
    assert card["paymentId"] != cash["paymentId"], "another way to pay calls the counter off"
    assert card["paymentUrl"]
    assert (await press(house, cash, await staff_headers(house))).status_code == 409
    await house.sim.pay(card)
    await house.booking_until(booking, "CONFIRMED")
    assert (await press(house, cash, await staff_headers(house))).status_code == 409
    assert await receipts(house, booking) == []


async def test_cash_that_is_taken_is_not_called_off_by_another_choice(house: RunningHouse) -> None:
    booking, payment = await at_counter(house)
    clerk = await staff_headers(house)
    taken, card = await asyncio.gather(press(house, payment, clerk), house.ask_to_pay(booking, paymentMethod="CARD"))
    if taken.status_code == 201:
        await house.booking_until(booking, "CONFIRMED")
        assert card.status_code != 201
    else:
        assert (taken.status_code, card.status_code) == (409, 201)
    assert len(await house.charges(booking)) == len(await receipts(house, booking))


async def test_a_payment_that_is_not_in_cash_is_not_taken_at_a_counter(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    answer = await press(house, payment, await staff_headers(house))
    assert answer.status_code == 422
    assert "flutterwave" in answer.json()["errors"][0]["message"]


async def test_a_refund_in_cash_waits_until_it_is_handed_out_once(house: RunningHouse) -> None:
    booking, payment = await at_counter(house)
    admin = await staff_headers(house)
    await press(house, payment, admin)
    asked = await house.api.post(
        f"/api/payments/{payment['paymentId']}/refund", json={"reason": "The bus was late"}, headers=admin
    )
    assert asked.status_code == 202, asked.text
    [refund] = await house.refunds_until(booking, "pending")
    await house.follow_refunds()
    assert (await house.refunds(booking))[0]["state"] == "pending", "nobody has handed it out"
    clerks = [await staff_headers(house, "operator_staff", "pearl") for _ in range(4)]
    answers = await asyncio.gather(*(hand_out(house, refund, clerk) for clerk in clerks))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    [done] = await house.refunds_until(booking, "succeeded")
    assert done["amount"] == payment["total"]
    assert (await house.ledger(booking))["refund_done"] == 1
    assert await in_the_till(house, booking) == 0
    await house.is_well()


async def test_a_refund_that_goes_another_way_is_not_handed_out(house: RunningHouse) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    admin = await staff_headers(house)
    await house.api.post(
        f"/api/payments/{payment['paymentId']}/refund", json={"reason": "The bus was late"}, headers=admin
    )
    refunds = await house.refunds(booking)
    assert (await hand_out(house, refunds[0], admin)).status_code == 422
    assert (await hand_out(house, refunds[0], holder(booking))).status_code == 401


async def test_a_counter_sends_no_webhooks(house: RunningHouse) -> None:
    answer = await house.api.post("/api/payments/webhook/cash", content=b"{}", headers={"verif-hash": ""})
    assert answer.status_code == 401


async def test_reconciliation_finds_receipts_and_charges_alike(house: RunningHouse) -> None:
    _, payment = await at_counter(house)
    await press(house, payment, await staff_headers(house))
    answer = await house.job("reconcile-payments")
    assert answer["failed"] == 0
    assert await house.box.value("SELECT count(*) FROM reconciliation_break WHERE gateway = 'cash'") == 0


async def test_the_command_line_takes_cash_and_hands_it_back(house: RunningHouse) -> None:
    booking, payment = await at_counter(house)
    clerk = await employ(house.box.db, "platform_admin")
    due = ("--amount", str(payment["total"]), "--currency", "UGX", "--staff", clerk.email)
    code, said = await house.kiti("payments", "cash", booking["reference"].lower(), *due, "--counter", "Kampala 1")
    assert code == 0, said
    assert f"Receipt {booking['reference']}-1" in said
    code, said = await house.kiti("payments", "cash", booking["reference"], "--amount", "1", *due[2:])
    assert code != 0
    await house.api.post(
        f"/api/payments/{payment['paymentId']}/refund",
        json={"reason": "The bus was late"},
        headers=await bearer(house, clerk),
    )
    [refund] = await house.refunds_until(booking, "pending")
    code, said = await house.kiti("refunds", "cash", str(refund["id"]), "--staff", clerk.email)
    assert (code, "succeeded" in said) == (0, True), said
    code, said = await house.kiti("payments", "cash", booking["reference"], *due[:-1], "nobody@kiti.example")
    assert code != 0
    assert "no account" in said


async def test_a_booking_without_an_attempt_is_paid_at_the_counter_all_the_same(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    clerk = await employ(house.box.db, "operator_staff", "pearl")
    due = ("--amount", str(booking["amount"]), "--currency", "UGX", "--staff", clerk.email)
    code, said = await house.kiti("payments", "cash", booking["reference"], *due)
    assert code == 0, said
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    other = await house.reserve(house.network.bus(), ["1A"])
    await house.initiate(other)
    code, said = await house.kiti("payments", "cash", other["reference"], *due)
    assert code != 0
    assert "flutterwave" in said


async def test_a_counter_asks_for_the_fee_as_well_also_of_who_never_chose_cash(own_house: RunningHouse) -> None:
    house = own_house
    fee = ("platform-fee", "--currency", "UGX", "--fixed", "1500")
    code, output = await house.kiti("fees", "set", *fee)
    assert code == 0, output
    await house.box.travel(minutes=2)  # a rule counts from a minute later on
    booking = await house.reserve(house.network.bus(), ["1A"])
    who = await employ(house.box.db, "operator_staff", "pearl")
    pay = (
        "payments",
        "cash",
        booking["reference"],
        "--currency",
        "UGX",
        "--staff",
        who.email,
        "--counter",
        "Kampala 1",
    )
    code, output = await house.kiti(*pay, "--amount", str(STANDARD_UGX), stdin=who.password + "\n")
    assert code != 0, output
    assert await receipts(house, booking) == []
    code, output = await house.kiti(*pay, "--amount", str(STANDARD_UGX + 1500), stdin=who.password + "\n")
    assert code == 0, output
    await house.booking_until(booking, "CONFIRMED")
    assert await in_the_till(house, booking) == STANDARD_UGX + 1500
    assert [ticket["status"] for ticket in await house.tickets(booking)] == ["VALID"]
    await house.is_well()
