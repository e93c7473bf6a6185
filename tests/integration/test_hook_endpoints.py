"""Endpoints are looked after: replays, tests, the log, who may reach which, how many there may be."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from tests.hooked import Desk, many_events, sold
from tests.receiver import Receiver

from kiti.core.errors import InvalidInput, NotAllowed, NotFound
from kiti.flows import hooks as flow
from kiti.flows.deliver_hooks import deliver_due, forget_old_events
from kiti.hooks.actions import OnItsWay, TooManyEndpoints
from kiti.hooks.model import EVENT_TYPES, MOST_PER_OWNER
from kiti.people.model import Operator, Role, Staff


async def test_an_event_is_replayed_under_its_id_and_not_while_it_is_under_way(desk: Desk, receiver: Receiver) -> None:
    made = await desk.add(receiver.url)
    await desk.tell(await sold(desk))
    (row,) = await desk.rows()
    with pytest.raises(OnItsWay):
        await flow.replay(desk.house, endpoint=made.id, event=row["event_id"])
    await desk.deliver()
    answers = await asyncio.gather(
        *(flow.replay(desk.house, endpoint=made.id, event=row["event_id"]) for _ in range(5)), return_exceptions=True
    )
    assert [answer for answer in answers if not isinstance(answer, OnItsWay)] == [1]
    await desk.deliver()
    assert list(receiver.ids.items()) == [(str(row["event_id"]), 2)]
    assert receiver.told[0].raw == receiver.told[1].raw
    with pytest.raises(OnItsWay):
        await flow.replay(desk.house, endpoint=made.id, event=uuid4())


async def test_a_test_is_sent_whatever_the_endpoint_listens_to(desk: Desk, receiver: Receiver) -> None:
    made = await desk.add(receiver.url, "trip.cancelled")
    event = await flow.try_endpoint(desk.house, endpoint=made.id)
    await deliver_due(desk.house, only=made.id)
    (told,) = receiver.told
    assert (told.id, told.type) == (str(event), "endpoint.test")
    assert told.is_signed_by(made.secret)


async def test_the_log_shows_pages_of_everything_and_what_failed(desk: Desk, receiver: Receiver) -> None:
    made = await desk.add(receiver.url)
    await many_events(desk, 7)
    await desk.deliver()
    await desk.box.rows(
        "UPDATE hook_delivery SET state = 'failed'"
        " WHERE event_id = (SELECT event_id FROM hook_delivery ORDER BY event_id DESC LIMIT 1)"
    )
    first = await flow.log_of(desk.house, endpoint=made.id, limit=5)
    second = await flow.log_of(desk.house, endpoint=made.id, limit=5, before=first.next_before)
    ids = [record.event_id for record in (*first.records, *second.records)]
    assert ids == sorted(ids, reverse=True)
    assert (len(ids), second.next_before) == (7, None)
    assert len((await flow.log_of(desk.house, endpoint=made.id, only_failed=True)).records) == 1
    rounds, body = await flow.told(desk.house, endpoint=made.id, event=ids[3])
    assert [record.state for record in rounds] == ["delivered"]
    assert body in [told.raw for told in receiver.told]


async def test_what_was_told_a_month_ago_is_forgotten(desk: Desk, receiver: Receiver) -> None:
    await desk.add(receiver.url)
    booking = await many_events(desk, 3)
    await desk.deliver()
    assert await forget_old_events(desk.house) == 0
    await desk.box.travel(minutes=31 * 24 * 60)
    await desk.tell(booking)
    assert await forget_old_events(desk.house) == 3
    assert len(await desk.rows()) == 1


def somebody(role: Role, operator: Any = None) -> Staff:
    works_for = None if operator is None else Operator(id=operator.id, code=operator.code, name="", timezone="UTC")
    return Staff(id=uuid4(), email="grace@kiti.example", name="Grace", role=role, operator=works_for)


async def test_finance_of_an_operator_reaches_its_own_endpoints_and_no_others(desk: Desk, receiver: Receiver) -> None:
    pearl = somebody("operator_finance", desk.network.bus_line.operator)
    lake = somebody("operator_finance", desk.network.shuttle_line.operator)
    own = await flow.add_endpoint(desk.house, url=receiver.url, event_types=EVENT_TYPES, staff=pearl)
    platform = await desk.add(receiver.url)
    assert (await desk.endpoint(own.id))["operator_id"] == pearl.bound
    with pytest.raises(NotAllowed):
        await flow.add_endpoint(
            desk.house, url=receiver.url, event_types=EVENT_TYPES, staff=lake, operator_code="pearl"
        )
    await desk.tell(await sold(desk))
    (row,) = await desk.rows(own.id)
    for staff, strange in ((lake, own.id), (pearl, platform.id)):
        assert strange not in {one.id for one in await flow.list_endpoints(desk.house, staff=staff)}
        for attempt in (
            flow.find_endpoint(desk.house, endpoint=strange, staff=staff),
            flow.rotate_secret(desk.house, endpoint=strange, staff=staff),
            flow.disable_endpoint(desk.house, endpoint=strange, staff=staff),
            flow.enable_endpoint(desk.house, endpoint=strange, staff=staff),
            flow.try_endpoint(desk.house, endpoint=strange, staff=staff),
            flow.replay(desk.house, endpoint=strange, event=row["event_id"], staff=staff),
            flow.replay_failed(desk.house, endpoint=strange, staff=staff),
            flow.log_of(desk.house, endpoint=strange, staff=staff),
            flow.told(desk.house, endpoint=strange, event=row["event_id"], staff=staff),
        ):
            with pytest.raises(NotFound, match="There is no such endpoint"):
                await attempt
    for role in ("operator_staff", "platform_finance"):
        operator = desk.network.bus_line.operator if role == "operator_staff" else None
        with pytest.raises(NotAllowed):
            await flow.list_endpoints(desk.house, staff=somebody(role, operator))


async def test_endpoints_are_checked_and_counted_when_they_are_made(desk: Desk, receiver: Receiver) -> None:
    for url, types in ((f"{receiver.url}#x", EVENT_TYPES), (receiver.url, ["booking.made"]), (receiver.url, [])):
        with pytest.raises(InvalidInput):
            await flow.add_endpoint(desk.house, url=url, event_types=types)
    made = await asyncio.gather(*(desk.add(receiver.url) for _ in range(MOST_PER_OWNER + 5)), return_exceptions=True)
    assert sum(isinstance(one, TooManyEndpoints) for one in made) == 5
    await desk.add(receiver.url, operator="pearl")
