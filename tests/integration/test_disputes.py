"""Disputes: held back while open, never refunded as well, borne by whoever earned it, and answered in time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tests.obliging import another_house
from tests.office import Held
from tests.settling import Treasury, open_treasury
from tests.staff import employ

from kiti.bookings.actions import WrongState
from kiti.disputes.actions import DisputeNotAnswerable
from kiti.flows.cancel_trip import cancel_trip
from kiti.flows.cancellation import cancel_booking
from kiti.flows.dispute_answers import (
    MOST_ATTEMPTS,
    answer_dispute,
    looked_at,
    remind_staff,
    send_due_answers,
)
from kiti.flows.disputes import find_disputes
from kiti.flows.plan import Item
from kiti.flows.staff_refunds import refund_payment
from kiti.flows.webhooks import process_webhook, receive_webhook
from kiti.gateways.gateway import Rejected, Unknown
from kiti.payments.actions import ChargeDisputed, RefundExceedsCharge
from kiti.people.model import Staff

FINANCE = Staff(id=UUID(int=2), email="f@kiti.example", name="Grace", role="platform_finance", operator=None)


@pytest.fixture
async def treasury(fresh_url: str) -> AsyncIterator[Treasury]:
    async with open_treasury(fresh_url) as there:
        yield there


async def refund(treasury: Treasury, transaction: str, amount: int | None = None) -> None:
    payment = UUID(treasury.gateway.taken[transaction].reference)
    await refund_payment(treasury.house, payment=payment, amount=amount, reason="Because.", staff=FINANCE)


async def only(treasury: Treasury) -> dict[str, Any]:
    (row,) = await treasury.box.rows("SELECT * FROM dispute")
    return row


async def standing(treasury: Treasury, held: Held) -> tuple[str, set[str]]:
    """The booking's state and the seats that it has good tickets for."""
    state = await treasury.box.value("SELECT state FROM booking WHERE id = %s", held.booking)
    return state, set(await treasury.office.tickets(held))


async def test_an_open_dispute_is_held_back_cannot_be_refunded_and_leaves_the_tickets_good(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    treasury.gateway.dispute(transaction)
    assert (await find_disputes(treasury.house)).told == 1
    assert (await only(treasury))["state"] == "open"
    assert await treasury.balance("dispute_hold:flutterwave") == 60_000
    for amount in (None, 1):
        with pytest.raises(ChargeDisputed, match="bank disputes"):
            await refund(treasury, transaction, amount)
    with pytest.raises(WrongState, match="wants the money back"):
        await cancel_booking(treasury.house, booking=held.booking, actor="test")
    assert await standing(treasury, held) == ("confirmed", {"1A"})


async def test_once_a_part_is_lost_the_rest_can_be_cancelled_and_goes_back(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    told = treasury.gateway.dispute(transaction, amount=20_000)
    await find_disputes(treasury.house)
    with pytest.raises(WrongState, match="wants the money back"):
        await cancel_booking(treasury.house, booking=held.booking, actor="test")
    treasury.gateway.decide(told, "lost")
    await find_disputes(treasury.house)
    cancelled = await cancel_booking(treasury.house, booking=held.booking, actor="test")
    assert cancelled.quote.refund.amount == 40_000
    (charge,) = await treasury.box.rows("SELECT * FROM charge WHERE booking_id = %s", held.booking)
    assert (charge["refund_reserved"], charge["disputed"]) == (60_000, 0)


async def test_a_dispute_that_is_won_gives_the_money_back_to_us(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    told = treasury.gateway.dispute(transaction)
    treasury.gateway.settle()
    await treasury.compare()
    assert await treasury.clearing() == {}
    treasury.gateway.decide(told, "won")
    await find_disputes(treasury.house)
    assert await treasury.balance("dispute_hold:flutterwave") == 0
    assert await treasury.clearing() == {held.booking: 60_000}
    treasury.gateway.settle()
    assert (await treasury.compare()).differing == 0
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()
    await refund(treasury, transaction)
    assert await standing(treasury, held) == ("confirmed", {"1A"})


@pytest.mark.parametrize("how", ["lost", "accepted"])
async def test_a_dispute_lost_before_the_journey_frees_the_seats_and_each_operator_bears_its_part(
    treasury: Treasury, how: str
) -> None:
    network = treasury.office.network
    bus, shuttle = network.bus(), network.shuttle()
    held, transaction = await treasury.buy(items=(Item(trip=bus, seats=("1A",)), Item(trip=shuttle, seats=("1A",))))
    told = treasury.gateway.dispute(transaction)
    await find_disputes(treasury.house)
    treasury.gateway.decide(told, how)  # type: ignore[arg-type]
    await find_disputes(treasury.house)
    assert (await only(treasury))["state"] == how
    assert await standing(treasury, held) == ("cancelled", set())
    assert await treasury.office.owners(bus) == await treasury.office.owners(shuttle) == {}
    for account in ("dispute_hold:flutterwave", f"ticket_liability:{network.bus_line.operator.id}"):
        assert await treasury.balance(account) == 0
    assert await treasury.balance(f"ticket_liability:{network.shuttle_line.operator.id}") == 0
    assert await treasury.balance("loss:flutterwave") == 0
    with pytest.raises(RefundExceedsCharge):
        await refund(treasury, transaction)
    treasury.gateway.settle()
    assert (await treasury.compare()).differing == 0
    assert await treasury.clearing() == {}
    await treasury.office.sell(bus, "1A")


async def test_a_dispute_lost_after_the_journey_began_changes_no_ticket(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    told = treasury.gateway.dispute(transaction)
    await treasury.box.travel(minutes=60 * 24 * 4)
    treasury.gateway.decide(told, "lost")
    await find_disputes(treasury.house)
    found = await only(treasury)
    assert (found["state"], found["attention"]) == ("lost", "")
    assert (await standing(treasury, held))[1] == {"1A"}


async def test_a_traveller_who_has_boarded_keeps_the_ticket_and_a_person_decides(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    ticket = (await treasury.office.tickets(held))["1A"]
    await treasury.office.scan(ticket.token, use=True)
    treasury.gateway.decide(treasury.gateway.dispute(transaction), "lost")
    await find_disputes(treasury.house)
    assert (await only(treasury))["attention"].startswith("It is lost before the journey")
    assert (await standing(treasury, held))[0] == "confirmed"
    await looked_at(treasury.house, dispute=(await only(treasury))["id"], note="They travel.", actor="test")
    assert (await only(treasury))["attention"] == ""


async def test_a_dispute_about_money_that_went_back_before_goes_to_a_person(treasury: Treasury) -> None:
    _, transaction = await treasury.buy("1A")
    await refund(treasury, transaction, 50_000)
    await treasury.finish_refunds()
    told = treasury.gateway.dispute(transaction)
    await find_disputes(treasury.house)
    found = await only(treasury)
    assert (found["reserved"], found["amount"]) == (10_000, 60_000)
    assert found["attention"].startswith("10000 of 60000 UGX")
    treasury.gateway.decide(told, "lost")
    await find_disputes(treasury.house)
    assert await treasury.balance("loss:flutterwave") == 50_000
    assert await treasury.balance("dispute_hold:flutterwave") == 0


async def test_a_dispute_of_a_part_leaves_the_rest_to_refund(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    told = treasury.gateway.dispute(transaction, amount=20_000)
    await find_disputes(treasury.house)
    with pytest.raises(ChargeDisputed):
        await refund(treasury, transaction, 40_001)
    treasury.gateway.decide(told, "lost")
    await find_disputes(treasury.house)
    assert await standing(treasury, held) == ("confirmed", {"1A"})
    assert "only a part" in (await only(treasury))["attention"]
    await refund(treasury, transaction)
    assert await treasury.box.value("SELECT sum(amount)::bigint FROM refund") == 40_000


async def test_refund_and_dispute_at_once_never_take_the_same_money(treasury: Treasury, fresh_url: str) -> None:
    for round_ in range(6):
        _, transaction = await treasury.buy("1A")
        treasury.gateway.dispute(transaction)
        async with another_house(fresh_url, treasury.gateway) as other:
            answers = await asyncio.gather(
                find_disputes(other),
                find_disputes(treasury.house),
                refund(treasury, transaction, 60_000),
                refund(treasury, transaction, 60_000),
                return_exceptions=True,
            )
        refused = [answer for answer in answers if isinstance(answer, RefundExceedsCharge)]
        assert len(refused) in {1, 2}, answers
        row = (
            await treasury.box.rows(
                "SELECT charge.amount, refund_reserved, reserved,"
                " (SELECT coalesce(sum(amount), 0)::bigint FROM refund WHERE refund.transaction_id = %s) AS refunded"
                " FROM charge JOIN dispute USING (booking_id) WHERE charge.transaction_id = %s",
                transaction,
                transaction,
            )
        )[0]
        assert row["refund_reserved"] == row["reserved"] + row["refunded"] <= row["amount"]
        assert (row["refunded"] > 0) == (len(refused) == 1)
        events = "SELECT count(*) FROM transfer WHERE event LIKE 'dispute_opened:%%'"
        assert await treasury.box.value(events) == round_ + 1


async def test_a_dispute_that_was_over_when_it_was_first_heard_of_is_posted_whole(treasury: Treasury) -> None:
    held, transaction = await treasury.buy("1A")
    treasury.gateway.decide(treasury.gateway.dispute(transaction), "won")
    await find_disputes(treasury.house)
    await find_disputes(treasury.house)
    rows = await treasury.box.rows(
        "SELECT split_part(event, ':', 1) AS kind FROM transfer WHERE event LIKE 'dispute%%' ORDER BY id"
    )
    assert [row["kind"] for row in rows] == ["dispute_opened", "dispute_won"]
    history = await treasury.box.rows("SELECT from_state, to_state FROM dispute_history ORDER BY id")
    assert [(row["from_state"], row["to_state"]) for row in history] == [("new", "open"), ("open", "won")]
    assert await standing(treasury, held) == ("confirmed", {"1A"})


async def test_a_trip_cancelled_under_a_dispute_that_is_won_asks_a_person(treasury: Treasury) -> None:
    """The trip owes the fare, and the bank had it then: whether it is owed still, nobody can tell by itself."""
    trip = treasury.office.network.bus()
    held, transaction = await treasury.buy(items=(Item(trip=trip, seats=("1A",)),))
    told = treasury.gateway.dispute(transaction)
    await find_disputes(treasury.house)
    await cancel_trip(treasury.house, trip=trip, reason="The road is closed.", actor="test")
    assert await treasury.box.value("SELECT count(*) FROM refund") == 0
    treasury.gateway.decide(told, "won")
    await find_disputes(treasury.house)
    assert "see whether the traveller is owed a refund" in (await only(treasury))["attention"]
    await refund(treasury, transaction)
    assert (await standing(treasury, held))[0] == "cancelled"


async def test_what_ends_differently_the_second_time_goes_to_a_person(treasury: Treasury) -> None:
    _, transaction = await treasury.buy("1A")
    told = treasury.gateway.dispute(transaction)
    treasury.gateway.decide(told, "won")
    await find_disputes(treasury.house)
    treasury.gateway.decide(told, "lost")
    await find_disputes(treasury.house)
    found = await only(treasury)
    assert found["state"] == "won"
    assert found["attention"].startswith("It has ended as won here, and the gateway tells lost.")


async def test_a_dispute_about_nothing_of_ours_is_named_until_it_is_gone(treasury: Treasury) -> None:
    _, reference = await treasury.hold()
    transaction = treasury.gateway.pay(reference)
    told = treasury.gateway.dispute(transaction)
    assert (await find_disputes(treasury.house)).unknown == 1
    assert await treasury.breaks() == {(transaction, "missing_ours", "ledger_dispute")}
    del treasury.gateway.disputes[told.dispute_id]
    await find_disputes(treasury.house)
    assert await treasury.breaks() == set()


async def test_a_webhook_about_a_dispute_is_a_hint_to_ask(treasury: Treasury) -> None:
    _, transaction = await treasury.buy("1A")
    treasury.gateway.dispute(transaction)
    await receive_webhook(treasury.house, gateway="flutterwave", headers={}, body=b"a dispute")
    (delivery,) = await treasury.box.rows("SELECT digest FROM webhook_delivery")
    said = await process_webhook(treasury.house, gateway="flutterwave", digest=delivery["digest"])
    assert said == "1 disputes looked at"
    assert (await only(treasury))["state"] == "open"


# -------------------------------------------------------------------- answers


async def opened(treasury: Treasury, **more: Any) -> UUID:
    _, transaction = await treasury.buy("1A")
    treasury.gateway.dispute(transaction, **more)
    await find_disputes(treasury.house)
    found: UUID = (await only(treasury))["id"]
    return found


async def test_whoever_gives_in_loses_the_money_and_the_seats(treasury: Treasury) -> None:
    dispute = await opened(treasury)
    found = await answer_dispute(treasury.house, dispute=dispute, answer="accept", comment="It is so.", actor="test")
    assert (found.state, found.answer_state) == ("accepted", "sent")
    assert await treasury.box.value("SELECT state FROM booking") == "cancelled"


async def test_an_answer_whose_fate_is_unknown_is_told_again_and_not_given_twice(treasury: Treasury) -> None:
    dispute = await opened(treasury)
    treasury.gateway.answers = [Unknown(reason="a time-out")]
    found = await answer_dispute(treasury.house, dispute=dispute, answer="contest", comment="See x.", actor="test")
    assert (found.state, found.answer_state) == ("open", "submitting")
    with pytest.raises(DisputeNotAnswerable):
        await answer_dispute(treasury.house, dispute=dispute, answer="accept", comment="No.", actor="test")
    assert await send_due_answers(treasury.house) == (0, 0), "the first request may still be on its way"
    await treasury.box.rows("UPDATE dispute SET act_after = kiti_now()")
    assert await send_due_answers(treasury.house) == (1, 0)
    assert (await only(treasury))["answer_state"] == "sent"
    assert [told[1:] for told in treasury.gateway.answered] == [(False, "See x.")] * 2


async def test_a_gateway_that_never_answers_is_told_a_bounded_number_of_times(treasury: Treasury) -> None:
    dispute = await opened(treasury)
    treasury.gateway.answers = [Unknown(reason="a time-out")] * 50
    await answer_dispute(treasury.house, dispute=dispute, answer="contest", comment="See x.", actor="test")
    for _ in range(MOST_ATTEMPTS + 3):
        await treasury.box.rows("UPDATE dispute SET act_after = kiti_now() WHERE act_after IS NOT NULL")
        await send_due_answers(treasury.house)
    assert len(treasury.gateway.answered) == MOST_ATTEMPTS
    assert (await only(treasury))["answer_state"] == "refused"


async def test_an_answer_that_was_refused_can_be_given_anew(treasury: Treasury) -> None:
    dispute = await opened(treasury)
    treasury.gateway.answers = [Rejected(reason="A proof is required.")]
    found = await answer_dispute(treasury.house, dispute=dispute, answer="contest", comment="No.", actor="test")
    assert (found.answer_state, found.answer_failure) == ("refused", "A proof is required.")
    found = await answer_dispute(
        treasury.house, dispute=dispute, answer="contest", comment="https://example.com/p", actor="test"
    )
    assert found.answer_state == "sent"


async def test_of_two_who_answer_at_once_one_is_heard(treasury: Treasury, fresh_url: str) -> None:
    dispute = await opened(treasury)
    async with another_house(fresh_url, treasury.gateway) as other:
        answers = await asyncio.gather(
            answer_dispute(other, dispute=dispute, answer="accept", comment="Yes.", actor="one"),
            answer_dispute(treasury.house, dispute=dispute, answer="contest", comment="No.", actor="two"),
            return_exceptions=True,
        )
    assert len([answer for answer in answers if isinstance(answer, DisputeNotAnswerable)]) == 1
    assert len(treasury.gateway.answered) == 1


async def test_staff_are_reminded_once_for_each_time_before_the_last_moment(
    treasury: Treasury, capsys: pytest.CaptureFixture[str]
) -> None:
    await employ(treasury.box.db, "platform_finance")
    await employ(treasury.box.db, "operator_finance", "pearl")
    dispute = await opened(treasury, hours=50)
    assert await remind_staff(treasury.house) == 0
    for hours in (40, 20, 2, -1):
        until = datetime.now(UTC) + timedelta(hours=hours)
        await treasury.box.rows("UPDATE dispute SET answer_by = %s WHERE id = %s", until, dispute)
        both = await asyncio.gather(remind_staff(treasury.house), remind_staff(treasury.house))
        assert sum(both) == (1 if hours > 0 else 0)
    said = capsys.readouterr()
    assert (said.out + said.err).count("answer until") >= 1
