"""Deliveries: written with what they tell, at least once, nobody starved by another, tried again, replayed, ended."""

import asyncio
import os
import sys
import time
from datetime import timedelta

import pytest
from standardwebhooks import WebhookVerificationError
from tests.hooked import Desk, calling, many_events, open_desk, sold
from tests.house import until
from tests.receiver import Receiver, Reply, Told, always, fine, tarpit

from kiti.core.errors import InvalidInput
from kiti.flows import hooks as flow
from kiti.flows.announce import announce, of_booking
from kiti.flows.deliver_hooks import AT_ONCE, deliver_due
from kiti.flows.hooks import EndpointDisabled
from kiti.flows.wellbeing import examine
from kiti.gateways.hooks import Caller
from kiti.hooks.model import FAILING_DAYS, MAX_ATTEMPTS

# ------------------------------------------------------------------ with what they tell


async def test_where_nobody_listens_nothing_is_written(desk: Desk, receiver: Receiver) -> None:
    other = await desk.add(receiver.url, "trip.cancelled")
    gone = await desk.add(receiver.url)
    await flow.disable_endpoint(desk.house, endpoint=gone.id)
    await desk.tell(await sold(desk))
    assert await desk.box.value("SELECT count(*) FROM hook_event") == 0
    assert await desk.rows() == []
    assert (await desk.deliver()).delivered == 0
    assert (await flow.find_endpoint(desk.house, endpoint=other.id)).standing == "well"


async def test_what_is_rolled_back_was_never_told(desk: Desk, receiver: Receiver) -> None:
    await desk.add(receiver.url)
    booking = await sold(desk)

    async def tell_and_fail() -> None:
        async with desk.box.db.transaction() as tx:
            await announce(tx, of_booking("booking.confirmed", booking))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await tell_and_fail()
    assert await desk.rows() == []


async def test_an_event_says_how_the_booking_stood_and_nothing_of_a_person(desk: Desk, receiver: Receiver) -> None:
    made = await desk.add(receiver.url)
    held = await desk.sell(desk.network.bus(), "1A", "1B")
    await desk.tell(held.booking)
    await desk.box.rows("UPDATE booking SET state = 'cancelled' WHERE id = %s", held.booking)
    assert (await desk.deliver()).delivered == 1
    (told,) = receiver.told
    assert told.is_signed_by(made.secret)
    assert told.headers["content-type"] == "application/json"
    data = told.body["data"]
    (trip,) = data.pop("trips")
    assert data == {
        "bookingId": str(held.booking),
        "reference": held.reference,
        "status": "CONFIRMED",
        "currency": "UGX",
        "amount": 120_000,
    }
    assert trip["departsAt"].endswith("Z")
    del trip["departsAt"], trip["tripId"]
    assert trip == {
        "operator": "pearl",
        "status": "SCHEDULED",
        "from": "KLA",
        "to": "KGL",
        "seats": ["1A", "1B"],
        "amount": 120_000,
    }
    assert b"Amina" not in told.raw
    assert b"256772123456" not in told.raw


async def test_an_operator_hears_of_its_own_trips_alone(desk: Desk) -> None:
    from kiti.flows.plan import Item

    async with Receiver().listening() as pearl, Receiver().listening() as lake, Receiver().listening() as platform:
        await desk.add(pearl.url, operator="pearl")
        await desk.add(lake.url, operator="lake")
        await desk.add(platform.url)
        alone = await sold(desk)
        shared = await desk.hold_items(
            Item(trip=desk.network.bus(), seats=("1A",)), Item(trip=desk.network.shuttle(), seats=("1A",))
        )
        await desk.tell(alone, shared.booking)
        assert (await desk.deliver()).delivered == 5
    assert len(pearl.told) == len(platform.told) == 2
    (told,) = lake.told
    assert [trip["operator"] for trip in told.body["data"]["trips"]] == ["lake"]
    assert told.body["data"]["amount"] == 15_000
    assert b"60000" not in told.raw
    (whole,) = platform.of(shared.booking)
    assert whole.body["data"]["amount"] == 75_000
    assert whole.id == told.id, "an event has one id, whoever hears of it"


# ------------------------------------------------------------------ at least once


async def test_two_passes_at_once_deliver_everything_once_and_keep_to_the_bound(desk: Desk, receiver: Receiver) -> None:
    async def slow(_told: Told) -> Reply:
        await asyncio.sleep(0.02)
        return await fine(_told)

    receiver.answer = slow
    await desk.add(receiver.url)
    await many_events(desk, 100)
    done = await asyncio.gather(*(desk.deliver() for _ in range(4)))
    while (await desk.deliver()).delivered:
        pass
    assert sum(one.delivered for one in done) <= 100
    assert set(receiver.ids.values()) == {1}
    assert len(receiver.ids) == 100
    assert receiver.most_at_once <= AT_ONCE
    assert {row["state"] for row in await desk.rows()} == {"delivered"}


async def test_a_sender_that_is_killed_leaves_a_delivery_that_comes_again_under_its_id(
    desk: Desk, receiver: Receiver
) -> None:
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    arrived = asyncio.Event()

    async def never(_told: Told) -> Reply:
        arrived.set()
        return await tarpit(_told)

    receiver.answer = never
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kiti", "jobs", "run", "deliver-webhooks"),
        env={**os.environ, "KITI_DEMO": "1", "KITI_HOOKS_ALLOW_PRIVATE": "1", "DATABASE_URL": desk.house.db.url},
    )
    async with asyncio.timeout(30):
        await arrived.wait()
    process.kill()
    await process.wait()
    receiver.answer = fine
    (row,) = await desk.rows()
    assert (row["state"], row["attempts"]) == ("sending", 1)
    assert (await desk.deliver()).delivered == 0, "its sender might still be at it"
    await desk.box.travel(minutes=2)
    assert (await desk.deliver()).delivered == 1
    assert list(receiver.ids.values()) == [2]
    assert all(told.is_signed_by(made.secret) for told in receiver.told)
    assert receiver.told[0].raw == receiver.told[1].raw


async def test_an_answer_that_comes_after_somebody_else_was_given_the_delivery_changes_nothing(
    desk: Desk, receiver: Receiver
) -> None:
    await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def wait(_told: Told) -> Reply:
        arrived.set()
        await gate.wait()
        return 500, {}, b""

    receiver.answer = wait
    late = asyncio.create_task(desk.deliver())
    await arrived.wait()
    await desk.box.travel(minutes=2)
    receiver.answer = fine
    assert (await desk.deliver()).delivered == 1
    before = await desk.rows()
    gate.set()
    await late
    after = await desk.rows()
    assert [row["state"] for row in after] == ["delivered"]
    assert before[0]["attempts"] == after[0]["attempts"] == 2


# ------------------------------------------------------------------ tried again


async def test_what_fails_is_tried_ten_times_and_then_waits_for_a_replay(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = always(500, b"out of <order>")
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    waits = []
    for _ in range(MAX_ATTEMPTS):
        assert (await desk.deliver()).not_delivered == 1
        (row,) = await desk.rows()
        waits.append(row["wait"])
        await desk.due_now()
    assert (row["state"], row["attempts"], row["status"], row["snippet"]) == ("failed", 10, 500, "out of <order>")
    assert timedelta(hours=24) - timedelta(minutes=1) < waits[8] < timedelta(hours=27)
    assert waits[9] is None
    assert (await desk.deliver()).not_delivered == 0
    assert len(receiver.told) == 10
    assert len(receiver.ids) == 1
    receiver.answer = fine
    assert await flow.replay_failed(desk.house, endpoint=made.id) == 1
    assert await flow.replay_failed(desk.house, endpoint=made.id) == 0, "it is on its way"
    assert (await desk.deliver()).delivered == 1
    assert len(receiver.ids) == 1


async def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asks(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = always(429, Retry_After="120")
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    assert (await desk.deliver()).not_delivered == 1
    (row,) = await desk.rows()
    assert timedelta(seconds=100) < row["wait"] <= timedelta(seconds=120)
    assert (await flow.find_endpoint(desk.house, endpoint=made.id)).standing == "resting"
    await desk.tell(await sold(desk))
    receiver.answer = fine
    assert (await desk.deliver()).delivered == 0
    await desk.box.travel(minutes=3)
    assert (await desk.deliver()).delivered == 2


async def test_an_endpoint_that_is_gone_is_disabled_at_once(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = always(410)
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    await desk.deliver()
    there = await desk.endpoint(made.id)
    assert there["disabled_reason"] == "It answered 410 Gone."
    assert [row["state"] for row in await desk.rows()] == ["failed"]
    await desk.tell(await sold(desk))
    assert len(await desk.rows()) == 1
    with pytest.raises(EndpointDisabled):
        await flow.replay(desk.house, endpoint=made.id, event=(await desk.rows())[0]["event_id"])
    actions = await desk.box.rows("SELECT action FROM audit_event WHERE subject_id = %s ORDER BY id", made.id)
    assert [row["action"] for row in actions] == ["hook.added", "hook.disabled"]


async def test_an_endpoint_that_fails_for_days_is_disabled_and_goes_on_where_it_was_when_enabled(
    desk: Desk, receiver: Receiver
) -> None:
    receiver.answer = always(500)
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    await desk.deliver()
    assert (await flow.find_endpoint(desk.house, endpoint=made.id)).standing == "failing"
    booking = await sold(desk)
    await desk.box.travel(minutes=FAILING_DAYS * 24 * 60 + 1)
    await desk.tell(booking)
    await desk.deliver()
    found = await flow.find_endpoint(desk.house, endpoint=made.id)
    assert (found.standing, found.disabled_reason) == ("disabled", "Nothing could be delivered for 5 days.")
    await desk.due_now()
    receiver.answer = fine
    assert (await desk.deliver()).delivered == 0
    await flow.enable_endpoint(desk.house, endpoint=made.id)
    assert (await desk.deliver()).delivered == 2


async def test_one_success_and_an_endpoint_is_well_again(desk: Desk, receiver: Receiver) -> None:
    receiver.answer = always(500)
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    await desk.deliver()
    receiver.answer = fine
    await desk.due_now()
    await desk.deliver()
    assert (await desk.endpoint(made.id))["failing_since"] is None


async def test_one_event_that_is_refused_does_not_keep_the_others_back(desk: Desk, receiver: Receiver) -> None:
    await desk.add(receiver.url)
    poison = await sold(desk)

    async def picky(told: Told) -> Reply:
        return (400 if told in receiver.of(poison) else 204), {}, b""

    receiver.answer = picky
    await desk.tell(poison)
    await desk.deliver()
    await many_events(desk, 40)
    await desk.deliver()
    states = [row["state"] for row in await desk.rows()]
    assert (states.count("delivered"), states.count("pending")) == (40, 1)


# ------------------------------------------------------------------ nobody starves another


async def test_a_tarpit_and_a_dead_endpoint_do_not_hold_up_the_others(desk: Desk, receiver: Receiver) -> None:
    gate = asyncio.Event()

    async def much_later(_told: Told) -> Reply:
        await gate.wait()
        return 500, {}, b""

    later = await sold(desk)
    async with Receiver(much_later).listening() as swamp:
        await desk.add(swamp.url)
        await desk.add("http://127.0.0.1:9/")
        await desk.add(receiver.url)
        await many_events(desk, 100)
        running = asyncio.create_task(desk.deliver())
        await until(receiver.number, lambda number: number == 100)
        # What happens while the tarpit is waited for is not held up either.
        await desk.tell(later)
        await until(receiver.number, lambda number: number == 101)
        assert receiver.of(later)
        assert not running.done()
        assert swamp.at_once == AT_ONCE
        gate.set()
        await running
        assert swamp.most_at_once == AT_ONCE
        # From now on it gets one at a time, and one in a pass.
        await desk.due_now()
        swamp.told.clear()
        await desk.deliver()
        assert len(swamp.told) == 1


async def test_a_hundred_a_second_and_more_are_delivered(desk: Desk, receiver: Receiver) -> None:
    await desk.add(receiver.url)
    await many_events(desk, 400)
    # Of this process's own time, the receiver's included: how busy others keep the machine is nothing of ours.
    began = time.process_time()
    assert (await desk.deliver()).delivered == 400
    took = time.process_time() - began
    assert 400 / took > 100


# ------------------------------------------------------------------ secrets


async def test_after_a_rotation_both_secrets_sign_until_the_old_one_is_over(desk: Desk, receiver: Receiver) -> None:
    made = await desk.add(receiver.url)
    fresh = await flow.rotate_secret(desk.house, endpoint=made.id, overlap_hours=2)
    await desk.tell(await sold(desk))
    await desk.deliver()
    assert receiver.told[0].is_signed_by(made.secret)
    assert receiver.told[0].is_signed_by(fresh)
    await desk.box.travel(minutes=121)
    await desk.tell(await sold(desk))
    await desk.deliver()
    assert receiver.told[1].is_signed_by(fresh)
    with pytest.raises(WebhookVerificationError):
        receiver.told[1].is_signed_by(made.secret)
    newest = await flow.rotate_secret(desk.house, endpoint=made.id, overlap_hours=0)
    await desk.tell(await sold(desk))
    await desk.deliver()
    assert receiver.told[2].is_signed_by(newest)
    with pytest.raises(WebhookVerificationError):
        receiver.told[2].is_signed_by(fresh)


async def test_secrets_are_not_in_the_database_and_do_not_open_in_another_row(desk: Desk, receiver: Receiver) -> None:
    made, other = await desk.add(receiver.url), await desk.add(receiver.url)
    for table in ("webhook_endpoint", "audit_event"):
        rows = await desk.box.rows(f"SELECT {table}::text AS row FROM {table}")
        assert made.secret not in str(rows)
        assert made.secret.encode().hex() not in str(rows)
    await desk.box.rows(
        "UPDATE webhook_endpoint SET secret = (SELECT secret FROM webhook_endpoint WHERE id = %s) WHERE id = %s",
        made.id,
        other.id,
    )
    await desk.tell(await sold(desk))
    done = await desk.deliver()
    assert (done.delivered, done.not_delivered) == (1, 1)
    (row,) = await desk.rows(other.id)
    assert (row["state"], row["attempts"]) == ("pending", 0), "nothing was taken that cannot be signed"
    findings = {finding.check: finding for finding in await examine(desk.house)}
    assert not findings["webhook endpoints"].ok
    await flow.rotate_secret(desk.house, endpoint=other.id, overlap_hours=0)
    assert (await desk.deliver()).delivered == 1


# ------------------------------------------------------------------ outside only


async def test_a_private_address_is_refused_also_where_it_was_written_into_the_database(
    fresh_url: str, receiver: Receiver
) -> None:
    """Outside of tests, whatever stands in the table and whatever the name resolves to."""
    async with open_desk(fresh_url, KITI_HOOKS_ALLOW_PRIVATE="") as desk:
        with pytest.raises(InvalidInput):
            await desk.add(receiver.url)
        made = await desk.add("https://shop.example.com/kiti")
        await desk.tell(await sold(desk))

        async def inside(_host: str, _port: int) -> list[str]:
            return ["127.0.0.1"]

        await deliver_due(calling(desk.house, Caller(resolve=inside)))
        (row,) = await desk.rows(made.id)
        assert row["reason"] == "not called: 127.0.0.1 is not a public address"
        for url in (receiver.url, f"https://127.0.0.1:{receiver.port}/", "https://localhost/"):
            await desk.box.rows("UPDATE webhook_endpoint SET url = %s", url)
            await desk.due_now()
            assert (await desk.deliver()).delivered == 0
    assert receiver.connections == 0
