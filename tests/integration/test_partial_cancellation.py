"""Cancelling some seats of a booking: they alone are given up, what goes back adds up, the rest travels on."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from tests.cancelling import cancel, departing, statuses
from tests.house import JsonObject, RunningHouse, holder
from tests.network import SHUTTLE_UGX, STANDARD_UGX
from tests.staff import staff_headers

from kiti.bookings.model import BookedSeat
from kiti.flows.cancellation import quote_seats
from kiti.network import actions as network
from kiti.network.model import DEFAULT_REFUND_RULES, RefundPolicy, RefundRule

CONTACT = {"name": "Grace Achieng", "email": "grace@example.com", "phone": "+256772000000"}


def seat(booking: JsonObject, number: str) -> JsonObject:
    return {"tripId": booking["tripId"], "seatNumber": number}


async def journey(house: RunningHouse, *items: tuple[UUID, list[str]]) -> JsonObject:
    """A paid booking over several trips."""
    body = {"items": [{"tripId": str(trip), "seatNumbers": seats} for trip, seats in items], "contact": CONTACT}
    answer = await house.api.post("/api/bookings/reserve", json=body)
    booking: JsonObject = answer.json()
    await house.sim.pay(await house.initiate(booking))
    await house.booking_until(booking, "CONFIRMED")
    return booking


async def test_one_traveller_stays_at_home_and_the_other_travels(house: RunningHouse) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A", "1B"], contact=CONTACT)
    asked = [seat(booking, "1b")]
    dry = (await cancel(house, booking, dryRun=True, seats=asked)).json()
    assert (dry["status"], dry["refund"]["amount"], dry["refundId"]) == ("CONFIRMED", STANDARD_UGX, None)
    assert [one["seatNumber"] for one in dry["seats"]] == ["1B"]
    done = (await cancel(house, booking, seats=asked)).json()
    assert (done["status"], done["refund"]["amount"]) == ("CONFIRMED", STANDARD_UGX)
    (refund,) = await house.refunds_until(booking, "succeeded")
    assert (refund["amount"], str(refund["id"])) == (STANDARD_UGX, done["refundId"])
    found = await house.booking(booking)
    assert (found["status"], found["seatNumbers"], found["amount"]) == ("CONFIRMED", ["1A"], 2 * STANDARD_UGX)
    (gone,) = found["cancelledSeats"]
    assert (gone["seatNumber"], gone["refunded"]["amount"]) == ("1B", STANDARD_UGX)
    status = await statuses(house, booking["tripId"])
    assert (status["1A"], status["1B"]) == ("BOOKED", "AVAILABLE")
    assert [(ticket["seatNumber"], ticket["status"]) for ticket in await house.tickets(booking)] == [("1A", "VALID")]
    void = "SELECT state FROM ticket WHERE booking_id = %s AND seat = '1B'"
    assert await house.box.value(void, booking["bookingId"]) == "void"
    assert (await house.payment(payment))["status"] == "PARTIALLY_REFUNDED"
    told = "SELECT data FROM message WHERE booking_id = %s AND event LIKE 'reduced:%%' AND channel = 'sms'"
    (message,) = await house.box.rows(told, booking["bookingId"])
    assert message["data"]["gone"].endswith(": 1B")
    assert (message["data"]["gone_seats"], message["data"]["amount"]) == ("1B", STANDARD_UGX)
    await house.doctor()


async def test_a_seat_that_was_given_up_is_sold_again_or_taken_by_a_fellow_traveller(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A", "1B", "1C"])
    assert (await cancel(house, booking, seats=[seat(booking, "1A"), seat(booking, "1B")])).status_code == 200
    swap = await house.api.post(
        f"/api/bookings/{booking['bookingId']}/seats",
        json={"swaps": [{"from": "1C", "to": "1B"}]},
        headers=holder(booking),
    )
    assert swap.status_code == 200, swap.text
    assert (await house.booking(booking))["seatNumbers"] == ["1B"]
    await house.buy(UUID(booking["tripId"]), ["1A"])
    again = await cancel(house, booking, seats=[seat(booking, "1A")])
    assert (again.status_code, again.json()["errors"][0]["field"]) == (422, "seats")
    await house.doctor()


async def test_the_last_seats_cancel_the_booking_and_take_what_was_paid_beyond_the_price(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A", "1B"])
    payment = await house.initiate(booking)
    await house.sim.pay(payment, amount=2 * STANDARD_UGX + 700)
    await house.booking_until(booking, "CONFIRMED")
    first = (await cancel(house, booking, seats=[seat(booking, "1A")])).json()
    assert (first["refund"]["amount"], first["excess"]["amount"]) == (STANDARD_UGX, 0)
    last = (await cancel(house, booking, seats=[seat(booking, "1B")])).json()
    assert (last["status"], last["refund"]["amount"]) == ("CANCELLED", STANDARD_UGX + 700)
    await house.refunds_until(booking, "succeeded", count=2)
    assert (await house.payment(payment))["status"] == "REFUNDED"
    assert {ticket["status"] for ticket in await house.tickets(booking)} == {"VOID"}
    await house.doctor()


async def test_one_way_of_a_return_journey_is_cancelled_by_its_own_hours(house: RunningHouse) -> None:
    there, back = await departing(house, hours=10), await departing(house, hours=50)
    booking = await journey(house, (there, ["1A", "1B"]), (back, ["2A", "2B"]))
    done = (await cancel(house, booking, trips=[str(there)])).json()
    assert [(one["seatNumber"], one["percent"]) for one in done["seats"]] == [("1A", 50), ("1B", 50)]
    assert (done["status"], done["refund"]["amount"]) == ("CONFIRMED", STANDARD_UGX)
    rest = (await cancel(house, booking, dryRun=True)).json()
    assert [(one["seatNumber"], one["percent"]) for one in rest["seats"]] == [("2A", 100), ("2B", 100)]
    assert rest["refund"]["amount"] == 2 * STANDARD_UGX
    assert (await cancel(house, booking, trips=[str(there)])).status_code == 422
    await house.doctor()


async def test_who_has_travelled_there_may_still_cancel_the_way_back_but_not_the_way_there(
    house: RunningHouse,
) -> None:
    there, back = await departing(house, hours=1), house.network.bus()
    booking = await journey(house, (there, ["1A"]), (back, ["1A"]))
    await house.box.rows(
        "UPDATE ticket SET state = 'used', used_at = kiti_now(), used_where = 'gate'"
        " WHERE booking_id = %s AND trip_id = %s",
        booking["bookingId"],
        there,
    )
    assert (await cancel(house, booking, trips=[str(there)])).json()["title"] == "Already boarded"
    left = "UPDATE trip_stop SET departs_at = kiti_now() - interval '1 minute' WHERE trip_id = %s AND seq = 0"
    await house.box.rows(left, there)
    done = (await cancel(house, booking, trips=[str(back)])).json()
    assert (done["status"], done["refund"]["amount"]) == ("CONFIRMED", STANDARD_UGX)
    arrives = (
        "SELECT arrives_at = (SELECT max(arrives_at) FROM trip_stop WHERE trip_id = %s) FROM booking WHERE id = %s"
    )
    assert await house.box.value(arrives, there, booking["bookingId"])
    await house.doctor()


async def test_a_journey_of_two_operators_gives_each_operators_part_back_in_their_name(house: RunningHouse) -> None:
    booking = await journey(house, (house.network.bus(), ["1A"]), (house.network.shuttle(), ["1A"]))
    shuttle = next(item["tripId"] for item in booking["items"] if item["tripId"] != booking["tripId"])
    assert (await cancel(house, booking, trips=[shuttle])).json()["refund"]["amount"] == SHUTTLE_UGX
    debits = await house.box.rows(
        "SELECT debit, amount FROM transfer WHERE booking_id = %s AND event LIKE 'refund_requested:%%'",
        booking["bookingId"],
    )
    operator = await house.box.value("SELECT operator_id FROM trip WHERE id = %s", UUID(shuttle))
    assert debits == [{"debit": f"ticket_liability:{operator}", "amount": SHUTTLE_UGX}]
    # Whose seats they were may still look at the refund; whose they never were alone may not.
    refund = await house.box.value("SELECT id FROM refund WHERE booking_id = %s", booking["bookingId"])
    headers = await staff_headers(house, "operator_finance", "pearl")
    assert (await house.api.get(f"/api/refunds/{refund}", headers=headers)).status_code == 403
    await house.doctor()


async def test_what_is_not_there_not_paid_or_nothing_at_all_is_refused(house: RunningHouse) -> None:
    held = await house.reserve(house.network.bus(), ["1A", "1B"])
    assert (await cancel(house, held, seats=[seat(held, "1A")])).status_code == 409
    booking, _ = await house.buy(house.network.bus(), ["1A", "1B"])
    wrong: list[JsonObject] = [
        {"seats": [seat(booking, "9A")]},
        {"trips": [held["tripId"]]},
        {"seats": []},
        {"trips": []},
    ]
    for body in wrong:
        assert (await cancel(house, booking, **body)).status_code == 422, body
    assert len((await house.booking(booking))["seatNumbers"]) == 2
    assert await house.refunds(booking) == []


async def test_a_trip_that_its_operator_cancels_gives_back_only_what_still_travels(house: RunningHouse) -> None:
    trip = await departing(house, hours=10)
    booking, _ = await house.buy(trip, ["1A", "1B"])
    assert (await cancel(house, booking, seats=[seat(booking, "1A")])).json()["refund"]["amount"] == STANDARD_UGX // 2
    assert (await house.kiti("trips", "cancel", str(trip), "--reason", "No driver."))[0] == 0
    refunds = await house.refunds_until(booking, "succeeded", count=2)
    assert sorted(refund["amount"] for refund in refunds) == [STANDARD_UGX // 2, STANDARD_UGX]
    assert (await house.booking(booking))["status"] == "CANCELLED"
    await house.doctor()


async def test_staff_cancel_seats_by_command(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A", "1B"])
    command = ["bookings", "cancel", booking["reference"], "--seat", "1B"]
    code, said = await house.kiti(*command, "--dry-run")
    assert (code, "UGX\u00a060,000 would go back" in said) == (0, True), said
    assert len((await house.booking(booking))["seatNumbers"]) == 2
    code, said = await house.kiti(*command, "--reason", "Asked by phone.")
    assert (code, "1A stays booked" in said) == (0, True), said
    assert (await house.booking(booking))["seatNumbers"] == ["1A"]
    code, said = await house.kiti("bookings", "cancel", booking["reference"], "--reason", "Asked by phone.")
    assert (code, "The booking is cancelled" in said) == (0, True), said
    assert len(await house.refunds_until(booking, "succeeded", count=2)) == 2


# ------------------------------------------------------------------ attacks


async def test_cancelling_every_seat_many_times_at_once_gives_each_fare_back_once(house: RunningHouse) -> None:
    numbers = ["1A", "1B", "1C", "1D"]
    booking, payment = await house.buy(house.network.bus(), numbers)
    wishes = [[seat(booking, number)] for number in numbers for _ in range(4)]
    answers = await asyncio.gather(*(cancel(house, booking, seats=wish) for wish in wishes))
    assert [answer.status_code for answer in answers].count(200) == len(numbers)
    assert {answer.status_code for answer in answers} <= {200, 409, 422}
    refunds = await house.refunds_until(booking, "succeeded", count=len(numbers))
    assert [refund["amount"] for refund in refunds] == [STANDARD_UGX] * len(numbers)
    assert (await house.payment(payment))["refundedAmount"] == len(numbers) * STANDARD_UGX
    assert (await house.booking(booking))["status"] == "CANCELLED"
    await house.doctor()


async def test_cancellations_of_parts_of_the_whole_and_of_staff_at_once_never_exceed_what_was_paid(
    house: RunningHouse,
) -> None:
    finance = await staff_headers(house, "platform_finance")
    for _ in range(3):
        booking, payment = await house.buy(house.network.bus(), ["1A", "1B", "1C"])
        path = f"/api/payments/{payment['paymentId']}/refund"

        async def goodwill(path: str = path) -> Any:
            body = {"reason": "Goodwill.", "amount": STANDARD_UGX // 2}
            return await house.api.post(path, json=body, headers=finance)

        await asyncio.gather(
            *(cancel(house, booking, seats=[seat(booking, number)]) for number in ("1A", "1B")),
            *(goodwill() for _ in range(4)),
            cancel(house, booking),
            cancel(house, booking, trips=[booking["tripId"]]),
        )
        refunds = await house.refunds(booking)
        refunds = await house.refunds_until(booking, "succeeded", count=len(refunds))
        assert sum(refund["amount"] for refund in refunds) <= 3 * STANDARD_UGX
        found = await house.booking(booking)
        assert found["status"] == "CANCELLED"
        assert {ticket["status"] for ticket in await house.tickets(booking)} == {"VOID"}
    await house.doctor()


async def test_a_seat_is_cancelled_or_swapped_at_once_never_both(house: RunningHouse) -> None:
    for _ in range(4):
        booking, _ = await house.buy(house.network.bus(), ["1A", "1B"])
        swap = house.api.post(
            f"/api/bookings/{booking['bookingId']}/seats",
            json={"swaps": [{"from": "1A", "to": "5A"}]},
            headers=holder(booking),
        )
        swapped, cancelled = await asyncio.gather(swap, cancel(house, booking, seats=[seat(booking, "1A")]))
        assert sorted([swapped.status_code, cancelled.status_code]) == [200, 422], (swapped.text, cancelled.text)
        kept = (await house.booking(booking))["seatNumbers"]
        assert kept == (["1B"] if cancelled.status_code == 200 else ["5A", "1B"])
        good = {ticket["seatNumber"] for ticket in await house.tickets(booking) if ticket["status"] == "VALID"}
        assert good == set(kept)
    await house.doctor()


async def test_an_inspector_and_a_cancellation_at_once_never_let_a_refunded_seat_board(house: RunningHouse) -> None:
    inspector = await staff_headers(house, "platform_admin")
    for _ in range(4):
        booking, _ = await house.buy(house.network.bus(), ["1A", "1B"])
        scan = house.api.post(
            "/api/tickets/verify",
            json={"code": f"{booking['reference']}-1A", "tripId": booking["tripId"], "use": True},
            headers=inspector,
        )
        scanned, cancelled = await asyncio.gather(scan, cancel(house, booking, seats=[seat(booking, "1A")]))
        boarded = scanned.json()["result"] == "VALID"
        assert boarded == (cancelled.status_code == 409), (scanned.text, cancelled.text)
    await house.doctor()


# ------------------------------------------------------------------ rules


async def test_an_operator_keeps_a_part_of_each_fare_a_fee_of_each_seat_and_one_of_each_cancellation(
    own_house: RunningHouse,
) -> None:
    house = own_house
    trip = await departing(house, hours=12)
    operator = await house.box.value("SELECT operator_id FROM trip WHERE id = %s", trip)
    policy = RefundPolicy(
        rules=(RefundRule(hours_before=6, percent=50),),
        fees={"UGX": 100},
        fees_once={"UGX": 2000},
        kept={"UGX": 10_000},
    )
    async with house.box.db.transaction() as tx:
        await network.set_refund_policy(tx, operator=operator, policy=policy)
    booking, payment = await house.buy(trip, ["1A", "1B", "1C"])
    each = (STANDARD_UGX - 10_000) // 2 - 100
    two = (await cancel(house, booking, seats=[seat(booking, "1A"), seat(booking, "1B")])).json()
    assert [one["fee"]["amount"] for one in two["seats"]] == [2100, 100]
    assert two["refund"]["amount"] == 2 * each - 2000
    one = (await cancel(house, booking)).json()
    assert one["refund"]["amount"] == each - 2000
    await house.refunds_until(booking, "succeeded", count=2)
    assert (await house.payment(payment))["refundedAmount"] == 3 * each - 4000
    kept = await house.box.value(
        "SELECT sum(CASE WHEN credit LIKE 'ticket_liability:%%' THEN amount ELSE 0 END)"
        " - sum(CASE WHEN debit LIKE 'ticket_liability:%%' THEN amount ELSE 0 END) FROM transfer WHERE booking_id = %s",
        booking["bookingId"],
    )
    assert kept == 3 * STANDARD_UGX - (3 * each - 4000)
    code, said = await house.kiti("operators", "refunds", "pearl")
    assert (code, "Fee for each cancellation: UGX\u00a02,000" in said) == (0, True), said
    assert "Never goes back of a fare: UGX\u00a010,000" in said


class _Booking:
    """What the pure computation reads of a booking."""

    def __init__(self, now: Any) -> None:
        self.now = now
        self.currency = "UGX"


OPERATORS = (UUID(int=1), UUID(int=2))
amounts = st.integers(0, 2_000)
policies = st.builds(
    RefundPolicy,
    rules=st.just(DEFAULT_REFUND_RULES)
    | st.integers(0, 100).map(lambda percent: (RefundRule(hours_before=0, percent=percent),)),
    fees=amounts.map(lambda amount: {"UGX": amount}),
    fees_once=amounts.map(lambda amount: {"UGX": amount}),
    kept=amounts.map(lambda amount: {"UGX": amount}),
)


@given(
    fares=st.lists(st.tuples(st.integers(1, 99_999), st.integers(0, 1), st.integers(-1, 60)), min_size=1, max_size=8),
    rules=st.tuples(policies, policies),
    parts=st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
def test_parts_add_up_to_the_whole_and_nobody_gets_more_than_they_paid(
    fares: list[tuple[int, int, int]], rules: tuple[RefundPolicy, RefundPolicy], parts: list[int]
) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    lines = [
        BookedSeat(
            booking_id=UUID(int=9),
            trip_id=UUID(int=100 + number),
            seat="1A",
            from_seq=0,
            to_seq=1,
            operator_id=OPERATORS[operator],
            seat_class="STANDARD",
            fare=fare,
            passenger_name="",
        )
        for number, (fare, operator, _) in enumerate(fares)
    ]
    # Hours until boarding; -1 is a trip that its operator has cancelled.
    boarding = {
        (line.trip_id, 0): now + timedelta(hours=hours)
        for line, (_, _, hours) in zip(lines, fares, strict=True)
        if hours >= 0
    }
    known = dict(zip(OPERATORS, rules, strict=True))
    booking: Any = _Booking(now)

    def goes_back(chosen: list[BookedSeat]) -> int:
        quotes = quote_seats(booking, chosen, boarding, known, on_top=[(0, 0)] * len(chosen))
        assert all(0 <= quote.amount <= quote.line.fare for quote in quotes)
        return sum(quote.amount for quote in quotes)

    def kept_once(chosen: list[BookedSeat]) -> int:
        free = {name: RefundPolicy(rules=rule.rules, fees=rule.fees, kept=rule.kept) for name, rule in known.items()}
        without = quote_seats(booking, chosen, boarding, free, on_top=[(0, 0)] * len(chosen))
        return sum(quote.amount for quote in without) - goes_back(chosen)

    groups = [
        [line for line, _ in group]
        for _, group in itertools.groupby(
            sorted(zip(lines, parts, strict=False), key=lambda pair: pair[1]), key=lambda pair: pair[1]
        )
    ]
    # One after another gives what all at once would, less what is kept of each cancellation and not of the whole.
    several, whole = sum(goes_back(group) for group in groups), goes_back(lines)
    assert several + sum(kept_once(group) for group in groups) == whole + kept_once(lines)
    assert several <= sum(line.fare for line in lines)
    for group in groups:
        most = sum(known[operator].fees_once["UGX"] for operator in {line.operator_id for line in group})
        assert 0 <= kept_once(group) <= most
