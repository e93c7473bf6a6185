"""A message that was given up is sent again when a person says so: once for each time, whoever presses how often."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest
from tests.integration.test_messages import GRACE, Post
from tests.network import Network
from tests.postoffice import MailServer

from kiti.app import open_house
from kiti.bookings.model import Booking
from kiti.core.errors import NotFound
from kiti.core.settings import load
from kiti.flows.parked_messages import NO_SUCH_MESSAGE, filter_of, parked_messages, send_again, send_again_by_id
from kiti.messages.model import ParkedLine

USUAL = filter_of(channel="", operator="", since="", until="")


class Desk(Post):
    """A house whose mail server refuses a traveller's address until it is mended."""

    async def parked(self, *, operator: UUID | None = None) -> list[ParkedLine]:
        return list(await parked_messages(self.house, wanted=USUAL, operator=operator))

    async def refused(self) -> tuple[Booking, ParkedLine]:
        """A booking with a message that the mail server did not take."""
        booking = await self.book()
        await self.queue(booking, GRACE.email)
        self.mail.refuse = lambda command, _: "550 no such mailbox" if command.startswith("RCPT") else None
        await self.send()
        self.mail.refuse = lambda _command, _recipient: None
        (line,) = await self.parked()
        return booking, line

    async def press(self, line: ParkedLine, *, operator: UUID | None = None) -> bool:
        return await send_again(
            self.house,
            booking=line.booking_id,
            message=line.id,
            attempts=line.attempts,
            operator=operator,
            actor="staff:1",
        )


@pytest.fixture
async def desk(fresh_url: str) -> AsyncIterator[Desk]:
    settings = load({"KITI_DEMO": "1", "DATABASE_URL": fresh_url, "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3"})
    async with MailServer().listening() as mail, open_house(settings) as house:
        mailer = mail.mailer()
        yield Desk(msgspec.structs.replace(house, mailer=mailer), await Network().build(house.db), mail)
        await mailer.close()


async def test_ten_presses_at_once_and_one_later_send_one_mail(desk: Desk) -> None:
    booking, line = await desk.refused()
    assert (line.reference, line.kind, line.recipient, line.attempts) == (
        booking.reference,
        "changed",
        GRACE.email,
        1,
    )
    assert "no such mailbox" in line.failure_reason
    pressed = await asyncio.gather(*(desk.press(line) for _ in range(10)))
    assert sum(pressed) == 1
    await asyncio.gather(desk.send(), desk.send())
    assert not await desk.press(line)
    await desk.send()
    assert desk.mail.recipients == {GRACE.email: 1}
    assert await desk.parked() == []
    noted = "SELECT actor, detail FROM audit_event WHERE subject_id = %s AND action = 'message.resent'"
    (event,) = await desk.box.rows(noted, booking.id)
    assert (event["actor"], event["detail"]["message"]) == ("staff:1", str(line.id))


async def test_a_press_on_a_page_that_is_older_than_the_last_attempt_sends_nothing(desk: Desk) -> None:
    _, old = await desk.refused()
    assert await desk.press(old)
    desk.mail.refuse = lambda command, _: "550 still not" if command.startswith("RCPT") else None
    await desk.send()
    (line,) = await desk.parked()
    assert (line.attempts, "still not" in line.failure_reason) == (2, True)
    assert not await desk.press(old)
    assert await desk.states() == {"parked": 1}


async def test_what_is_out_of_date_is_not_sent_however_often_somebody_asks(desk: Desk) -> None:
    booking = await desk.book()
    await desk.queue(booking, GRACE.email, event="held")
    await desk.box.travel(minutes=30)
    await desk.send()
    (line,) = await desk.parked()
    assert await send_again_by_id(desk.house, message=line.id, actor="command line")
    await desk.send()
    (again,) = await desk.parked()
    assert "The hold was over" in again.failure_reason
    assert desk.mail.mails == []


async def test_staff_of_another_operator_neither_see_nor_send_it(desk: Desk) -> None:
    _, line = await desk.refused()
    theirs, others = desk.network.bus_line.operator.id, desk.network.lake_line.operator.id
    assert [one.id for one in await desk.parked(operator=theirs)] == [line.id]
    assert await desk.parked(operator=others) == []
    with pytest.raises(NotFound, match=NO_SUCH_MESSAGE[:20]):
        await desk.press(line, operator=others)
    assert await desk.states() == {"parked": 1}
    assert await desk.press(line, operator=theirs)
    with pytest.raises(NotFound):
        await send_again_by_id(desk.house, message=line.id, actor="command line")


async def test_the_list_is_filtered_by_channel_and_operator(desk: Desk) -> None:
    _, line = await desk.refused()
    for channel, code, found in (
        ("email", "pearl", [line.id]),
        ("sms", "pearl", []),
        ("", "lake", []),
        ("", "", [line.id]),
    ):
        wanted = filter_of(channel=channel, operator=code, since="", until="")
        assert [one.id for one in await parked_messages(desk.house, wanted=wanted, operator=None)] == found
