"""Messages: told at most once, by whoever and however often it is tried; never lost, never sent for ever."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from tests.box import Box
from tests.network import Network
from tests.pace import effort
from tests.postoffice import MailServer, SmsDesk

from kiti.app import open_house
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import Booking, Contact
from kiti.core.money import Money
from kiti.core.settings import load
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.letters import occasions
from kiti.flows.messages import Sent, send_due
from kiti.flows.plan import Item, Reservation
from kiti.flows.reserve import reserve
from kiti.flows.upkeep import JOBS
from kiti.flows.wellbeing import examine
from kiti.gateways.delivery import Accepted
from kiti.gateways.mail import NoMailer
from kiti.gateways.sms import Twilio
from kiti.messages import actions as messages
from kiti.messages import reads as message_reads
from kiti.messages.model import MAX_ATTEMPTS, MAX_DOUBTS, Channel, Event, NewMessage

BY_MAIL: tuple[Channel, ...] = ("email",)
BY_SMS: tuple[Channel, ...] = ("sms",)
BOTH: tuple[Channel, ...] = ("email", "sms")
GRACE = Contact(name="Grace Akello", email="grace@example.com", phone="+256772123456")


class Post:
    """A house with a mail server of its own, and bookings to tell of."""

    def __init__(self, house: House, network: Network, mail: MailServer) -> None:
        self.house = house
        self.network = network
        self.mail = mail
        self.box = Box(house.db)

    async def book(self, *, contact: Contact = GRACE, language: str = "en") -> Booking:
        items = (Item(trip=self.network.bus(), seats=("1A", "1B")),)
        made = await reserve(self.house, Reservation(items=items, contact=contact, language=language))
        await self.box.rows("DELETE FROM message")  # what reserving may have queued by itself
        async with self.box.db.reader() as reader:
            return await booking_reads.by_id(reader, booking=made.booking)

    async def queue(self, booking: Booking, *recipients: str, event: Event = "changed") -> None:
        new = [
            NewMessage(booking=booking.id, event=event, channel="email", recipient=recipient, language="en")
            for recipient in recipients
        ]
        await self.house.db.run(lambda tx: messages.enqueue_many(tx, new=new))

    async def rows(self) -> list[dict[str, Any]]:
        return await self.box.rows(
            "SELECT event, channel, recipient, state, attempts, doubts, failure_reason, provider_id,"
            " extract(epoch FROM act_after - kiti_now())::integer AS wait FROM message ORDER BY recipient, event"
        )

    async def row(self) -> dict[str, Any]:
        (row,) = await self.rows()
        return row

    async def states(self) -> dict[str, int]:
        found = await self.box.rows("SELECT state, count(*) AS number FROM message GROUP BY state")
        return {row["state"]: row["number"] for row in found}

    async def send(self) -> Sent:
        return await send_due(self.house)

    def with_mailer(self, mailer: Any) -> "Post":
        return Post(msgspec.structs.replace(self.house, mailer=mailer), self.network, self.mail)

    def with_texter(self, texter: Any) -> "Post":
        return Post(msgspec.structs.replace(self.house, texter=texter), self.network, self.mail)


@pytest.fixture
async def post(fresh_url: str) -> AsyncIterator[Post]:
    settings = load({"KITI_DEMO": "1", "DATABASE_URL": fresh_url, "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3"})
    async with MailServer().listening() as mail, open_house(settings) as house:
        mailer = mail.mailer()
        yield Post(msgspec.structs.replace(house, mailer=mailer), await Network().build(house.db), mail)
        await mailer.close()


def addresses(number: int) -> list[str]:
    return [f"traveller{index}@example.com" for index in range(number)]


async def test_a_message_goes_out_once_and_says_so(post: Post) -> None:
    booking = await post.book()
    await post.queue(booking, "grace@example.com", event="held")
    assert await post.send() == Sent(sent=1, not_sent=0)
    ((recipient, mail),) = post.mail.mails
    assert recipient == "grace@example.com"
    assert mail["From"] == "Kiti <tickets@example.com>"
    assert mail["To"] == "grace@example.com"
    assert "Kampala" in str(mail["Subject"])
    plain = mail.get_body(("plain",))
    assert plain is not None
    assert booking.reference in plain.get_content()
    row = await post.row()
    assert (row["state"], row["attempts"], row["wait"], row["failure_reason"]) == ("sent", 1, None, None)
    assert str(mail["Message-ID"]) in row["provider_id"]
    assert await post.send() == Sent(sent=0, not_sent=0)
    assert len(post.mail.mails) == 1


async def test_ten_passes_at_once_tell_everybody_exactly_once(post: Post) -> None:
    booking, everybody = await post.book(), addresses(300)
    await post.queue(booking, *everybody)
    done = await asyncio.gather(*(post.send() for _ in range(10)))
    assert sum(one.sent for one in done) == 300
    assert post.mail.recipients == dict.fromkeys(everybody, 1)
    assert await post.states() == {"sent": 300}


async def test_an_event_is_told_to_a_recipient_once_however_often_it_is_queued(post: Post) -> None:
    booking = await post.book()
    await asyncio.gather(*(post.queue(booking, "a@example.com", "b@example.com", "a@example.com") for _ in range(10)))
    await post.send()
    await post.queue(booking, "a@example.com", "b@example.com")
    await post.send()
    assert post.mail.recipients == {"a@example.com": 1, "b@example.com": 1}
    async with post.house.db.transaction() as tx:
        await messages.enqueue(
            tx, booking=booking.id, event="paid", recipients={"email": "a@example.com", "sms": ""}, language="en"
        )
    await post.send()
    assert post.mail.recipients == {"a@example.com": 2, "b@example.com": 1}


@pytest.mark.parametrize("pipelined", [False, True])
async def test_messages_are_queued_with_the_change_that_they_tell_of_or_not_at_all(
    post: Post, *, pipelined: bool
) -> None:
    booking = await post.book()
    new = [
        NewMessage(booking=booking.id, event="paid", channel="sms", recipient=f"+25677212345{n}", language="sw")
        for n in range(5)
    ]

    async def regret(tx: Transaction) -> None:
        await messages.enqueue_many(tx, new=new)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await post.house.db.run(regret, pipelined=pipelined)
    assert await post.rows() == []
    async with post.house.db.transaction(pipelined=pipelined) as tx:
        await messages.enqueue_many(tx, new=new)
        await messages.enqueue_many(tx, new=[])
    assert len(await post.rows()) == 5


async def test_a_server_that_has_no_time_is_asked_again_ever_less_often_and_not_for_ever(post: Post) -> None:
    await post.queue(await post.book(), "grace@example.com")
    post.mail.refuse = lambda command, _: "451 later" if command.startswith("RCPT") else None
    waits = []
    for _ in range(MAX_ATTEMPTS):
        assert await post.send() == Sent(sent=0, not_sent=1)
        row = await post.row()
        waits.append(row["wait"])
        await post.box.travel(seconds=(row["wait"] or 0) + 1)
    assert [round(wait / 60) for wait in waits[:-1]] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360, 360]
    assert (row["state"], row["doubts"]) == ("parked", 0)
    assert row["failure_reason"] == f"Given up after {MAX_ATTEMPTS} attempts: 451 later"
    post.mail.refuse = lambda *_: None
    assert await post.send() == Sent(sent=0, not_sent=0)
    assert post.mail.mails == []


async def test_what_could_not_be_sent_goes_out_when_its_time_has_come(post: Post) -> None:
    await post.queue(await post.book(), "grace@example.com")
    unreachable = post.with_mailer(MailServer().mailer())
    await unreachable.send()
    assert (await post.row())["state"] == "queued"
    assert await post.send() == Sent(sent=0, not_sent=0)
    await post.box.travel(seconds=61)
    assert await post.send() == Sent(sent=1, not_sent=0)


@pytest.mark.parametrize("command", ["RCPT", "."])
async def test_a_hopeless_message_is_parked_at_once_and_the_others_go_out(post: Post, command: str) -> None:
    await post.queue(await post.book(), *addresses(30), "nobody@example.com")
    post.mail.refuse = lambda line, to: (
        "550 no such user" if to == "nobody@example.com" and line.startswith(command) else None
    )
    assert await post.send() == Sent(sent=30, not_sent=1)
    assert await post.states() == {"sent": 30, "parked": 1}
    async with post.house.db.reader() as reader:
        (parked,) = await message_reads.parked(reader)
    assert (parked.event, parked.channel, parked.failure_reason) == ("changed", "email", "550 no such user")
    findings = {finding.check: finding for finding in await examine(post.house)}
    assert findings["messages"].ok
    assert "1 given up in seven days, the last: 550 no such user" in findings["messages"].detail


async def test_mail_that_is_not_set_up_is_parked_with_that_reason(post: Post) -> None:
    await post.queue(await post.book(), "grace@example.com")
    await post.with_mailer(NoMailer()).send()
    row = await post.row()
    assert (row["state"], row["failure_reason"]) == ("parked", "Mail is not set up: SMTP_URL is empty.")


async def test_an_answer_that_was_lost_is_followed_by_one_more_attempt_and_no_third(post: Post) -> None:
    await post.queue(await post.book(), "grace@example.com")
    post.mail.refuse = lambda line, _: "" if line == "." else None
    for _ in range(5):
        await post.send()
        await post.box.travel(minutes=10)
    assert post.mail.recipients == {"grace@example.com": MAX_DOUBTS}
    assert len(post.mail.message_ids) == 1  # a mailbox can tell that they are one
    row = await post.row()
    assert (row["state"], row["attempts"], row["doubts"]) == ("parked", 2, 2)
    assert row["failure_reason"].startswith("It may have arrived or not")


async def test_a_sender_killed_before_it_could_say_so_leaves_one_message_twice_at_most(
    post: Post, fresh_url: str
) -> None:
    await post.queue(await post.book(), "grace@example.com")
    for _ in range(2):
        arrived = asyncio.Event()

        async def never(arrived: asyncio.Event = arrived) -> None:
            arrived.set()
            await asyncio.sleep(3600)

        post.mail.before_answer = never
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kiti", "jobs", "run", "send-notifications"),
            env={
                **os.environ,
                "KITI_DEMO": "1",
                "DATABASE_URL": fresh_url,
                "SMTP_URL": f"smtp://127.0.0.1:{post.mail.port}",
                "KITI_MAIL_FROM": "tickets@example.com",
            },
        )
        async with asyncio.timeout(30):
            await arrived.wait()
        process.kill()
        await process.wait()
        post.mail.before_answer = None
        assert (await post.row())["state"] == "sending"
        assert await post.send() == Sent(sent=0, not_sent=0)  # its sender might still be at it
        await post.box.travel(minutes=5)
    assert await post.send() == Sent(sent=0, not_sent=0)
    row = await post.row()
    assert (row["state"], row["doubts"], row["failure_reason"]) == ("parked", 2, messages.SENDER_DIED)
    assert post.mail.recipients == {"grace@example.com": 2}
    assert len(post.mail.message_ids) == 1


async def test_a_result_that_comes_after_somebody_else_was_given_the_message_changes_nothing(post: Post) -> None:
    await post.queue(await post.book(), "grace@example.com")
    arrived, gate = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        arrived.set()
        await gate.wait()

    post.mail.before_answer = wait
    slow = asyncio.create_task(post.send())
    await arrived.wait()
    await post.box.travel(minutes=5)
    post.mail.before_answer = None
    assert await post.send() == Sent(sent=1, not_sent=0)
    before = await post.row()
    gate.set()
    await slow
    assert await post.row() == before
    assert (before["attempts"], before["doubts"], before["state"]) == (2, 1, "sent")


async def test_a_hold_that_is_over_or_paid_for_is_not_told_any_more(post: Post) -> None:
    await post.queue(await post.book(), "grace@example.com", event="held")
    await post.box.travel(minutes=16)
    assert await post.send() == Sent(sent=0, not_sent=1)
    assert (await post.row())["state"] == "parked"
    assert post.mail.mails == []


async def test_each_occasion_is_told_by_both_ways_in_the_traveller_s_language(post: Post) -> None:
    told = []

    class Listening:
        async def send(self, *, to: str, text: str) -> Any:
            told.append((to, text))
            return Accepted(provider_id="x")

        async def close(self) -> None: ...

    there = post.with_texter(Listening())
    words = {"en": ("Paid back", "thank you"), "fr": ("Remboursé", "merci"), "sw": ("Imerudishwa", "asante")}
    for language, (subject, thanks) in words.items():
        booking = await post.book(language=language)
        post.mail.raw.clear()
        told.clear()
        amount = Money(booking.amount, booking.currency)
        async with post.house.db.transaction(pipelined=True) as tx:
            await occasions.paid(tx, receipts=[(booking, amount)], channels=BOTH)
            await occasions.failed(tx, booking=booking, attempt=uuid4(), channels=BOTH)
            await occasions.failed(tx, booking=booking, attempt=uuid4(), channels=BOTH)
            await occasions.changed(tx, booking=booking, channels=BOTH)
            await occasions.cancelled(tx, bookings=[booking], channels=BOTH)
            await occasions.refunded(tx, booking=booking, refund=uuid4(), amount=amount, channels=BOTH)
        assert await there.send() == Sent(sent=14, not_sent=0)
        assert post.mail.recipients == {"grace@example.com": 7}
        assert [to for to, _ in told] == ["+256772123456"] * 7
        assert any(str(mail["Subject"]).startswith(subject) for _, mail in post.mail.mails)
        assert any(thanks in text for _, text in told)
        assert all(mail["Content-Language"] == language for _, mail in post.mail.mails)
        await post.box.rows("DELETE FROM message")


async def test_nobody_is_told_by_a_way_that_is_not_set_up_or_that_they_did_not_give(post: Post) -> None:
    anonymous = await post.book(contact=Contact())
    grace = await post.book()
    async with post.house.db.transaction() as tx:
        await occasions.cancelled(tx, bookings=[anonymous, grace], channels=BY_MAIL)
    assert [(row["channel"], row["recipient"]) for row in await post.rows()] == [("email", "grace@example.com")]


async def test_a_hostile_traveller_harms_nobody_s_letters(post: Post) -> None:
    hostile = Contact(name='</p><script>x</script>{{ 1/0 }}"', email='"a@b"@example.com', phone="+256772123456")
    booking = await post.book(contact=hostile)
    await post.queue(booking, "grace@example.com", "a>b,c@example.com", "x\r\nBcc: all@example.com")
    assert await post.send() == Sent(sent=1, not_sent=2)
    ((_, mail),) = post.mail.mails
    page = mail.get_body(("html",))
    assert page is not None
    assert "&lt;/p&gt;&lt;script&gt;" in page.get_content()
    assert "<script" not in page.get_content()
    assert await post.states() == {"sent": 1, "parked": 2}


async def test_text_messages_that_a_provider_may_have_taken_are_not_sent_a_third_time(post: Post) -> None:
    booking = await post.book()
    async with SmsDesk(lambda _: None).listening() as desk:
        twilio = Twilio(base_url=desk.url, account_sid="AC1", auth_token="t", sender="+15005550006")
        there = post.with_texter(twilio)
        async with post.house.db.transaction() as tx:
            await occasions.cancelled(tx, bookings=[booking], channels=BY_SMS)
        for _ in range(4):
            await there.send()
            await post.box.travel(minutes=10)
        await twilio.close()
    assert len(desk.forms) == MAX_DOUBTS
    assert (await post.row())["state"] == "parked"


async def test_at_least_a_hundred_messages_go_out_in_a_second(post: Post) -> None:
    booking, everybody = await post.book(), addresses(600)
    await post.queue(booking, *everybody)
    spent = await effort(post.house.db)
    assert await post.send() == Sent(sent=600, not_sent=0)
    # The mail server's part is in it, for it runs in this process.
    assert 600 / spent.seconds >= 100, f"{600 / spent.seconds:.0f} messages a second"
    assert post.mail.connections <= 20


async def test_the_job_counts_what_it_has_sent(post: Post) -> None:
    await post.queue(await post.book(), *addresses(3))
    tally = await JOBS["send-notifications"](post.house)
    assert (tally.processed, tally.failed) == (3, 0)
