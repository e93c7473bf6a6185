"""Cancelling: what goes back is what the rules say and what was shown, once, and the seats are on sale again."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cancelling import cancel, departing, statuses
from tests.house import RunningHouse, holder, until
from tests.network import STANDARD_UGX

from kiti.network import actions as network
from kiti.network.model import DEFAULT_REFUND_RULES, RefundPolicy, RefundRule

HOUR = timedelta(hours=1)


async def test_a_hold_is_given_up_and_nothing_goes_back(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    dry = (await cancel(house, booking, dryRun=True)).json()
    assert (dry["status"], dry["refund"]["amount"], dry["seats"]) == ("HELD", 0, [])
    done = (await cancel(house, booking)).json()
    assert (done["status"], done["refundId"]) == ("CANCELLED", None)
    assert (await statuses(house, booking["tripId"]))["1A"] == "AVAILABLE"


@pytest.mark.parametrize(("hours", "percent"), [(30, 100), (20, 50), (1, 0)])
async def test_so_much_goes_back_as_was_shown(house: RunningHouse, hours: float, percent: int) -> None:
    booking, payment = await house.buy(await departing(house, hours=hours), ["1A", "1B"])
    dry = (await cancel(house, booking, dryRun=True)).json()
    expected = 2 * STANDARD_UGX * percent // 100
    assert (dry["status"], dry["refund"]["amount"], dry["refundId"]) == ("CONFIRMED", expected, None)
    assert [(seat["seatNumber"], seat["percent"]) for seat in dry["seats"]] == [("1A", percent), ("1B", percent)]
    assert (await house.booking(booking))["status"] == "CONFIRMED"
    done = (await cancel(house, booking)).json()
    assert (done["status"], done["refund"]["amount"]) == ("CANCELLED", expected)
    assert (done["refundId"] is None) == (expected == 0)
    assert (await statuses(house, booking["tripId"]))["1A"] == "AVAILABLE"
    assert {ticket["status"] for ticket in await house.tickets(booking)} == {"VOID"}
    if expected:
        (refund,) = await house.refunds_until(booking, "succeeded")
        assert (refund["amount"], str(refund["id"])) == (expected, done["refundId"])
        assert (await house.payment(payment))["refundedAmount"] == expected
    else:
        assert await house.refunds(booking) == []
    await house.doctor()


async def test_twenty_cancellations_at_once_refund_once(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    answers = await asyncio.gather(*(cancel(house, booking) for _ in range(20)))
    assert sorted({answer.status_code for answer in answers}) == [200, 409]
    assert [answer.status_code for answer in answers].count(200) == 1
    assert len(await house.refunds_until(booking, "succeeded")) == 1


async def test_a_journey_of_two_trips_is_judged_trip_by_trip(house: RunningHouse) -> None:
    soon, later = await departing(house, hours=10), await departing(house, hours=50)
    answer = await house.api.post(
        "/api/bookings/reserve",
        json={"items": [{"tripId": str(trip), "seatNumbers": ["1A"]} for trip in (soon, later)]},
    )
    booking = answer.json()
    payment = await house.initiate(booking)
    await house.sim.pay(payment)
    await house.booking_until(booking, "CONFIRMED")
    quote = (await cancel(house, booking, dryRun=True)).json()
    assert [seat["percent"] for seat in quote["seats"]] == [50, 100]


async def test_a_trip_that_the_operator_cancelled_gives_everything_back(house: RunningHouse) -> None:
    trip = await departing(house, hours=1)
    booking, _ = await house.buy(trip, ["1A"])
    await house.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", trip)
    assert (await cancel(house, booking)).json()["refund"]["amount"] == STANDARD_UGX


async def test_who_has_travelled_or_boarded_cannot_cancel(house: RunningHouse) -> None:
    gone, _ = await house.buy(await departing(house, hours=1), ["1A"])
    await house.box.rows(
        "UPDATE trip_stop SET departs_at = kiti_now() - interval '1 minute' WHERE trip_id = %s AND seq = 0",
        gone["tripId"],
    )
    assert (await cancel(house, gone)).status_code == 409
    boarded, _ = await house.buy(house.network.bus(), ["1A"])
    await house.box.rows(
        "UPDATE ticket SET state = 'used', used_at = kiti_now(), used_where = 'gate' WHERE booking_id = %s",
        boarded["bookingId"],
    )
    refused = await cancel(house, boarded)
    assert (refused.status_code, refused.json()["title"]) == (409, "Already boarded")
    assert (await house.booking(boarded))["status"] == "CONFIRMED"


async def test_only_the_holder_of_a_booking_cancels_it(house: RunningHouse) -> None:
    booking, other = await house.reserve(house.network.bus(), ["1A"]), await house.reserve(house.network.bus(), ["1A"])
    path = f"/api/bookings/{booking['bookingId']}/cancel"
    assert (await house.api.post(path)).status_code == 401
    assert (await house.api.post(path, headers=holder(other))).status_code == 403


async def test_an_operator_s_own_rules_and_fee_count(own_house: RunningHouse) -> None:
    house = own_house
    trip = await departing(house, hours=12)
    operator = await house.box.value("SELECT operator_id FROM trip WHERE id = %s", trip)
    policy = RefundPolicy(rules=(RefundRule(hours_before=6, percent=75),), fees={"UGX": 1000})
    async with house.box.db.transaction() as tx:
        await network.set_refund_policy(tx, operator=operator, policy=policy)
    booking, _ = await house.buy(trip, ["1A"])
    done = (await cancel(house, booking)).json()
    (seat,) = done["seats"]
    assert (seat["percent"], seat["fee"]["amount"]) == (75, 1000)
    assert seat["refund"]["amount"] == done["refund"]["amount"] == STANDARD_UGX * 75 // 100 - 1000


async def test_a_payment_that_comes_for_a_cancelled_hold_goes_back(house: RunningHouse) -> None:
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    assert (await cancel(house, booking)).json()["status"] == "CANCELLED"
    await house.sim.pay(payment)
    await until(lambda: house.charges(booking), lambda charges: len(charges) == 1)
    await house.refunds_until(booking, "succeeded")


classes = st.sampled_from(["", "VIP", "STANDARD"])
rules = st.lists(
    st.builds(RefundRule, hours_before=st.integers(0, 200), percent=st.integers(0, 100), seat_class=classes),
    max_size=6,
    unique_by=lambda rule: (rule.seat_class, rule.hours_before),
)


@given(rules=rules, hours=st.integers(0, 300), seat_class=st.sampled_from(["VIP", "STANDARD"]))
def test_the_rule_with_the_most_hours_that_are_left_counts(
    rules: list[RefundRule], hours: int, seat_class: str
) -> None:
    policy = RefundPolicy(rules=tuple(rules), fees={})
    own = [rule for rule in rules if rule.seat_class == seat_class] or [r for r in rules if not r.seat_class]
    expected = 0
    for rule in sorted(own, key=lambda rule: rule.hours_before):
        if rule.hours_before <= hours:
            expected = rule.percent
    assert policy.percent(seat_class=seat_class, left=hours * HOUR) == expected


def test_a_minute_late_is_late() -> None:
    policy = RefundPolicy(rules=DEFAULT_REFUND_RULES, fees={})
    assert policy.percent(seat_class="VIP", left=24 * HOUR) == 100
    assert policy.percent(seat_class="VIP", left=24 * HOUR - timedelta(seconds=1)) == 50
    assert policy.percent(seat_class="VIP", left=timedelta(0)) == 0
