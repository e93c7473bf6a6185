"""kill -9 before and after every commit and every request to a gateway: the end is the same as without it.

Nobody lists the points: they are counted while the story is told once, so a commit that is added to a flow is killed at
from then on. tests/crash_points.py says how.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.crash_acts import (
    Case,
    Heard,
    ask_to_pay,
    cancel,
    cancel_one_seat,
    cancel_whole_trip,
    follow_payout,
    follow_refunds,
    have_paid_out,
    poll,
    refund_by_staff,
    take_cash,
    take_webhooks,
    work,
)
from tests.crash_points import Ours, Stage, Story, Theirs, ends_alike, open_stage
from tests.earnings import BANK, Earnings, somebody
from tests.house import until
from tests.network import FIRST_DAY, LAKE_KES, STANDARD_UGX

from kiti.flows.settlements import approve
from kiti.flows.upkeep import send_notifications
from kiti.gateways.gateway import Destination
from kiti.settlements.actions import put_terms
from kiti.settlements.model import Terms

# A story is told some twenty times over; on a machine that others use as well that may take minutes.
pytestmark = [pytest.mark.storm, pytest.mark.timeout(600)]

KENYAN = "+254712345678"
# How the gateways call refunds and transfers that have only begun; of v3, "completed" is one of these.
IN_HAND = {"completed", "new", "pending", "NEW", "PENDING"}
CONNECTED = Destination(kind="connected", country="UG", bank="", account="acct_1Pearl", name="Pearl Coaches Ltd")
APPROVER = somebody(number=2)
# More than one telling for each point of a payout.
STATEMENTS = 26

Begins = Callable[[Stage], Awaitable[Case]]


@pytest.fixture(scope="module")
async def stage(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    from tests.conftest import fresh_database

    with fresh_database(server_url, template) as url:
        async with open_stage(url, tmp_path_factory.mktemp("crash_points")) as there:
            yield there


# ------------------------------------------------------------------ how stories begin


def held(gateway: str, *, seats: int = 1, **how: Any) -> Begins:
    """Seats on a bus of their own that are held."""

    async def begins(stage: Stage) -> Case:
        trip = stage.network.bus()
        chosen = stage.network.bus_line.seats[:seats]
        booking, amount, currency = await stage.hold(trip, *chosen)
        return Case(
            gateway=gateway,
            trip=trip,
            bookings=[booking],
            amount=amount,
            currency=currency,
            staff=stage.staff,
            **how,
        )

    return begins


async def held_in_kenya(stage: Stage) -> Case:
    """A seat that is paid for from a phone in Kenya, which is asked without any page."""
    trip = stage.network.lake()
    booking, amount, currency = await stage.hold(trip, stage.network.lake_line.seats[0])
    return Case(
        gateway="flutterwave",
        method="MOBILE_MONEY",
        channel="direct",
        phone=KENYAN,
        trip=trip,
        bookings=[booking],
        amount=amount,
        currency=currency,
    )


def asked(begins: Begins) -> Begins:
    """The traveller is before the gateway's page."""

    async def and_asked(stage: Stage) -> Case:
        case = await begins(stage)
        await ask_to_pay(stage.house, case)
        return case

    return and_asked


def bought(gateway: str, *, seats: int = 2) -> Begins:
    """Seats that are paid for, and the traveller knows it."""

    async def begins(stage: Stage) -> Case:
        case = await asked(held(gateway, seats=seats))(stage)
        await pays_unheard(stage, case)
        await poll(stage.house, case)
        await send_notifications(stage.house)
        return case

    return begins


async def bought_beside_a_hold(stage: Stage) -> Case:
    """A trip on which one booking is paid for and another is not yet."""
    case = await bought("flutterwave")(stage)
    assert case.trip is not None
    waiting, _, _ = await stage.hold(case.trip, "5A")
    case.bookings.append(waiting)
    return case


# ------------------------------------------------------------------ what the world does


async def pays(stage: Stage, case: Case) -> None:
    await stage.sim.pay(str(case.payment))


async def pays_twice(stage: Stage, case: Case) -> None:
    await stage.sim.pay(str(case.payment), "pay-twice")


async def pays_unheard(stage: Stage, case: Case) -> None:
    await stage.sim.pay(str(case.payment), "pay-without-webhook")


async def webhook_comes(stage: Stage, case: Case) -> None:
    case.heard = (await _told(stage, str(case.payment)))[:1]


async def two_webhooks_come(stage: Stage, case: Case) -> None:
    case.heard = await _told(stage, str(case.payment), count=2)


async def refund_webhook_comes(stage: Stage, case: Case) -> None:
    """The one that says that the money is back."""
    refund = await stage.box.value("SELECT id FROM refund WHERE booking_id = %s", case.booking)
    case.heard = (await _told(stage, str(refund), "completed-"))[:1]


async def gateway_is_done(stage: Stage, case: Case) -> None:
    """What takes its time there has taken it."""
    await until(
        lambda: stage.at_gateway(case),
        lambda moved: not any(status in IN_HAND for kind, status, _ in moved if kind != "transactions"),
    )


async def _told(stage: Stage, *words: str, count: int = 1) -> list[Heard]:
    """The webhooks with all these words, once there are so many."""

    async def look() -> list[Heard]:
        return [
            Heard(gateway=one.path.removeprefix("/"), headers=one.headers, body=one.raw)
            for one in stage.inbox.told
            if all(word.encode() in one.raw for word in words)
        ]

    return await until(look, lambda found: len(found) >= count)


# ------------------------------------------------------------------ checkout


@pytest.mark.parametrize(
    ("begins", "due"),
    [
        pytest.param(held("flutterwave"), STANDARD_UGX, id="Flutterwave v3, on its page"),
        pytest.param(held_in_kenya, LAKE_KES, id="Flutterwave v3, on the phone"),
        pytest.param(held("flutterwave_v4"), STANDARD_UGX, id="Flutterwave v4, on its page"),
        pytest.param(held("flutterwave_v4", method="MOBILE_MONEY"), STANDARD_UGX, id="Flutterwave v4, on the phone"),
        pytest.param(held("stripe"), STANDARD_UGX, id="Stripe, authorised and captured"),
    ],
)
async def test_a_checkout_ends_alike_wherever_a_process_dies(stage: Stage, begins: Begins, due: int) -> None:
    steps = (Ours(ask_to_pay), Theirs(pays), Theirs(webhook_comes), Ours(take_webhooks), Ours(work))
    end = await ends_alike(stage, Story(begins=begins, steps=steps))
    assert end["booking"] == [{"state": "confirmed", "amount": due}]
    assert [charge["amount"] for charge in end["charges"]] == [due]
    assert len(end["tickets"]) == len(end["at the gateway"]) == 1


@pytest.mark.parametrize("gateway", ["flutterwave", "stripe"])
async def test_a_checkout_that_the_poller_finds_ends_alike_wherever_it_dies(stage: Stage, gateway: str) -> None:
    steps = (Theirs(pays_unheard), Ours(poll))
    end = await ends_alike(stage, Story(begins=asked(held(gateway)), steps=steps))
    assert end["booking"] == [{"state": "confirmed", "amount": STANDARD_UGX}]
    assert len(end["tickets"]) == len(end["charges"]) == 1


async def test_a_checkout_in_cash_ends_alike_wherever_a_process_dies(stage: Stage) -> None:
    steps = (Ours(ask_to_pay), Ours(take_cash))
    end = await ends_alike(stage, Story(begins=held("cash", method="CASH"), steps=steps))
    assert end["booking"] == [{"state": "confirmed", "amount": STANDARD_UGX}]
    assert end["receipts"] == [{"amount": STANDARD_UGX}]
    assert len(end["tickets"]) == len(end["charges"]) == 1


# ------------------------------------------------------------------ refunds


@pytest.mark.parametrize("gateway", ["flutterwave", "flutterwave_v4", "stripe"])
async def test_a_cancellation_ends_alike_wherever_a_process_dies(stage: Stage, gateway: str) -> None:
    steps = (Ours(cancel), Ours(work), Theirs(gateway_is_done), Ours(follow_refunds))
    end = await ends_alike(stage, Story(begins=bought(gateway), steps=steps))
    assert end["booking"] == [{"state": "cancelled", "amount": 2 * STANDARD_UGX}]
    assert _given_back(end) == [2 * STANDARD_UGX]
    assert {ticket["state"] for ticket in end["tickets"]} == {"void"}
    assert end["claims"] == []


async def test_a_partial_cancellation_ends_alike_wherever_a_process_dies(stage: Stage) -> None:
    steps = (Ours(cancel_one_seat), Ours(work), Theirs(gateway_is_done), Ours(follow_refunds))
    end = await ends_alike(stage, Story(begins=bought("flutterwave"), steps=steps))
    assert end["booking"][0]["state"] == "confirmed"
    assert _given_back(end) == [STANDARD_UGX]
    assert [ticket["state"] for ticket in end["tickets"]] == ["void", "valid"]
    assert len(end["seats"]) == len(end["seats_given_up"]) == 1


async def test_a_refund_by_staff_ends_alike_wherever_a_process_dies(stage: Stage) -> None:
    steps = (Ours(refund_by_staff), Ours(work), Theirs(gateway_is_done), Ours(follow_refunds))
    end = await ends_alike(stage, Story(begins=bought("flutterwave"), steps=steps))
    assert end["booking"][0]["state"] == "confirmed"
    assert _given_back(end) == [25_000]


async def test_money_that_came_twice_goes_back_once_wherever_a_process_dies(stage: Stage) -> None:
    steps = (
        *(Theirs(pays_twice), Theirs(two_webhooks_come), Ours(take_webhooks), Ours(work)),
        *(Theirs(refund_webhook_comes), Ours(take_webhooks), Ours(work)),
    )
    end = await ends_alike(stage, Story(begins=asked(held("flutterwave")), steps=steps))
    assert end["booking"][0]["state"] == "confirmed"
    assert [charge["purpose"] for charge in end["charges"]] == ["fulfils", "surplus"]
    assert _given_back(end) == [STANDARD_UGX]


async def test_a_trip_that_is_cancelled_gives_back_once_wherever_a_process_dies(stage: Stage) -> None:
    steps = (Ours(cancel_whole_trip), Ours(work), Theirs(gateway_is_done), Ours(follow_refunds))
    end = await ends_alike(stage, Story(begins=bought_beside_a_hold, steps=steps))
    assert [booking["state"] for booking in end["booking"]] == ["cancelled", "cancelled"]
    assert _given_back(end) == [2 * STANDARD_UGX]
    assert end["trips_given_back"] == [{"is_refunded": True}]
    assert end["claims"] == []


def _given_back(end: dict[str, Any]) -> list[int]:
    assert {refund["state"] for refund in end["refunds"]} == {"succeeded"}
    return [refund["amount"] for refund in end["refunds"]]


# ------------------------------------------------------------------ payouts


@pytest.mark.parametrize(
    ("gateway", "destination"),
    [("flutterwave", BANK), ("flutterwave_v4", BANK), ("stripe", CONNECTED)],
    ids=["Flutterwave v3", "Flutterwave v4", "Stripe"],
)
async def test_a_payout_ends_alike_wherever_a_process_dies(
    stage: Stage, gateway: str, destination: Destination
) -> None:
    drafts = await _drafts(stage, gateway, destination)

    async def begins(stage: Stage) -> Case:
        settlement = drafts.pop()
        await approve(stage.house, settlement=settlement, staff=APPROVER)
        return Case(gateway=gateway, settlement=settlement, staff=stage.staff)

    # The last round comes a day later in life, and looks whether the money has stayed where it went.
    steps = (
        *(Ours(have_paid_out), Ours(follow_payout), Theirs(gateway_is_done)),
        *(Ours(follow_payout), Ours(follow_payout)),
    )
    end = await ends_alike(stage, Story(begins=begins, steps=steps))
    assert end["statement"] == [{"state": "reconciled", "net": STANDARD_UGX}]
    assert [(payout["state"], payout["amount"]) for payout in end["payouts"]] == [("reconciled", STANDARD_UGX)]
    assert len(end["at the gateway"]) == 1


async def _drafts(stage: Stage, gateway: str, destination: Destination) -> list[UUID]:
    """Statements of one operator, each of a day on which one seat was earned."""
    earnings = Earnings(stage.house, stage.network)
    earnings.box = stage.box
    async with stage.box.db.transaction() as tx:
        await put_terms(
            tx,
            terms=Terms(
                operator_id=earnings.pearl,
                currency="UGX",
                period="daily",
                minimum_payout=0,
                gateway=gateway,
                destination=destination,
                set_by="staff:boss",
            ),
        )
    for _ in range(STATEMENTS):
        now = await stage.box.value("SELECT kiti_now()")
        trip = stage.network.bus_line.trip_on(max(FIRST_DAY, now.date() + timedelta(days=1)))
        await earnings.buy(trip, "1A")
        await earnings.after(trip)
        await earnings.recognise()
    await stage.box.travel(seconds=2 * 86_400)
    return [row["id"] for row in await earnings.settle()]
