"""Where every unit of money is once all is quiet: gateways' books, charges, refunds, disputes, bookings and the ledger,
compared to the minor unit.

A gateway that has lied is excused of that transaction only, and only if the difference was found and has a name.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from kiti.banking import reads as banking_reads
from kiti.core.money import round_to_minor
from kiti.flows.books import books_of as books_of_bookings
from kiti.flows.house import House
from kiti.flows.wellbeing import examine
from kiti.ledger.model import UNSPENT
from tests.earnings import WRONG_BALANCES, WRONG_LINES, WRONG_TOTALS
from tests.gateway_books import Books, Disputed, Taken, books_of, minor, taken_in_all
from tests.house import JsonObject, RunningHouse
from tests.promises import broken, evidence

CHARGES = """
    SELECT
        charge.booking_id, charge.payment_id::text AS payment_id, charge.gateway, charge.transaction_id, charge.purpose,
        charge.amount, charge.currency, charge.fee_exact, charge.refund_reserved, charge.disputed,
        payment.state, booking.state AS booking,
        (SELECT coalesce(sum(refund.amount), 0) FROM refund
            WHERE refund.booking_id = charge.booking_id AND refund.transaction_id = charge.transaction_id
            AND refund.state = 'succeeded')::bigint AS back,
        EXISTS (SELECT FROM refund
            WHERE refund.booking_id = charge.booking_id AND refund.transaction_id = charge.transaction_id
            AND refund.state = 'needs_attention') AS failed,
        (SELECT coalesce(sum(dispute.reserved), 0) FROM dispute
            WHERE dispute.booking_id = charge.booking_id AND dispute.transaction_id = charge.transaction_id
            AND dispute.state IN ('lost', 'accepted'))::bigint AS lost,
        EXISTS (SELECT FROM dispute
            WHERE dispute.booking_id = charge.booking_id AND dispute.transaction_id = charge.transaction_id
            AND dispute.reserved < dispute.amount) AS disputed_beyond,
        (SELECT coalesce(sum(transfer.amount), 0) FROM transfer
            WHERE transfer.booking_id = charge.booking_id AND transfer.currency = charge.currency
            AND transfer.event = 'capture:' || charge.gateway || ':' || charge.transaction_id
            AND transfer.debit = 'gateway_clearing:' || charge.gateway)::bigint AS posted,
        (SELECT count(*) FROM ticket WHERE ticket.booking_id = charge.booking_id AND state IN ('valid', 'used'))
            AS tickets,
        (SELECT count(*) FROM booking_seat AS line WHERE line.booking_id = charge.booking_id
            AND NOT EXISTS (SELECT FROM trip_refund
                WHERE trip_refund.booking_id = line.booking_id AND trip_refund.trip_id = line.trip_id)) AS seats
    FROM charge
    INNER JOIN payment ON payment.booking_id = charge.booking_id AND payment.id = charge.payment_id
    INNER JOIN booking ON booking.id = charge.booking_id
    WHERE charge.booking_id = ANY(%s)
"""
DISPUTES = """
    SELECT gateway, dispute_id, transaction_id, amount, state, answer FROM dispute WHERE booking_id = ANY(%s)
"""
# What gateways owe us or have paid into the bank, below each booking: debits minus credits.
WITH_GATEWAYS = """
    SELECT booking_id, split_part(account, ':', 2) AS gateway, currency, sum(amount)::bigint AS amount
    FROM (
        SELECT booking_id, debit AS account, currency, amount FROM transfer
        UNION ALL SELECT booking_id, credit, currency, -amount FROM transfer
    ) AS side
    WHERE booking_id = ANY(%s) AND split_part(account, ':', 1) IN ('gateway_clearing', 'bank')
    GROUP BY booking_id, split_part(account, ':', 2), currency
"""
ON_ITS_WAY_BACK = """
    SELECT sum(CASE WHEN credit LIKE 'refund\\_clearing:%%' THEN amount ELSE -amount END)::bigint AS amount
    FROM transfer
    WHERE booking_id = ANY(%s) AND (debit LIKE 'refund\\_clearing:%%' OR credit LIKE 'refund\\_clearing:%%')
"""
REFUNDS_FOR_A_PERSON = """
    SELECT coalesce(sum(amount), 0)::bigint AS amount FROM refund
    WHERE booking_id = ANY(%s) AND state = 'needs_attention'
"""
BREAKS = """
    SELECT gateway, transaction_id, kind, sides, detail FROM reconciliation_break WHERE resolved_at IS NULL
"""

# Of all checks, those that hold for money which was disputed, cancelled or put before a person only with more words:
# this module has them.
EXCUSED_PROMISES = ("other money goes back to the last coin", "money has bought every seat of the booking a ticket")


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to pay, and what its gateway has in its books about it."""

    id: str
    booking: UUID
    gateway: str
    state: str
    books: Books


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about some bookings, read at one moment. `lies` are transactions of which a gateway told us wrong."""

    attempts: list[Attempt]
    charges: list[JsonObject]
    disputes: list[JsonObject]
    breaks: list[JsonObject]
    lies: frozenset[str]


async def audit_of(there: RunningHouse, bookings: Sequence[UUID]) -> Audit:
    """Ask gateways and database."""
    attempts = await attempts_of(there, bookings)
    charges = await there.box.rows(CHARGES, list(bookings))
    ours = {charge["transaction_id"]: charge for charge in charges}
    lies = frozenset(
        taken.transaction
        for attempt in attempts
        for taken in attempt.books.taken
        if (charge := ours.get(taken.transaction)) is not None and not _is_same(taken, charge)
    )
    return Audit(
        attempts=attempts,
        charges=charges,
        disputes=await there.box.rows(DISPUTES, list(bookings)),
        breaks=await there.box.rows(BREAKS),
        lies=lies,
    )


async def attempts_of(there: RunningHouse, bookings: Sequence[UUID]) -> list[Attempt]:
    """All attempts to pay for these bookings, with what the gateways have of them."""
    rows = await there.box.rows(
        "SELECT id::text AS id, booking_id, gateway, state FROM payment WHERE booking_id = ANY(%s) ORDER BY id",
        list(bookings),
    )
    return [
        Attempt(
            id=row["id"],
            booking=row["booking_id"],
            gateway=row["gateway"],
            state=row["state"],
            books=await books_of(there, attempt=row["id"], gateway=row["gateway"]),
        )
        for row in rows
    ]


async def unheard_of(there: RunningHouse, bookings: Sequence[UUID]) -> list[str]:
    """Money that a gateway has and that no charge tells of, and authorisations that nobody has captured or let go."""
    attempts = await attempts_of(there, bookings)
    charges = await there.box.rows("SELECT transaction_id FROM charge WHERE booking_id = ANY(%s)", list(bookings))
    known = {charge["transaction_id"] for charge in charges}
    return [
        f"{attempt.gateway} {transaction} of {attempt.id} ({attempt.state})"
        for attempt in attempts
        for transaction in [*(taken.transaction for taken in attempt.books.taken), *attempt.books.authorised]
        if transaction not in known
    ]


def gateways_tell_the_same(audit: Audit) -> None:
    """Each transaction, fee, refund and dispute is in our books as the gateway has it, or is a lie that has a name."""
    ours = {charge["transaction_id"]: charge for charge in audit.charges}
    told = {taken.transaction: attempt for attempt in audit.attempts for taken in attempt.books.taken}
    assert told.keys() == ours.keys(), (told.keys() ^ ours.keys(), audit.attempts)
    named = {row["transaction_id"] for row in audit.breaks}
    assert audit.lies <= named, [ours[one] for one in audit.lies - named]
    for charge in audit.charges:
        assert charge["posted"] == charge["amount"], charge
        attempt = told[charge["transaction_id"]]
        paid = sum(
            refund.amount
            for refund in attempt.books.refunds
            if refund.transaction == charge["transaction_id"] and refund.outcome == "paid"
        )
        assert paid == charge["back"], (charge, attempt)
    known = {(row["gateway"], row["dispute_id"]): row for row in audit.disputes}
    for attempt in audit.attempts:
        for dispute in attempt.books.disputes:
            row = known.pop((attempt.gateway, dispute.id), None)
            if row is None:  # about an amount of which we were told wrong, so it is a difference with a name
                assert dispute.transaction in audit.lies & named, dispute
            else:
                _is_same_dispute(row, dispute)
    assert not known, known


def _is_same_dispute(row: JsonObject, dispute: Disputed) -> None:
    assert (row["transaction_id"], row["amount"]) == (dispute.transaction, dispute.amount), (row, dispute)
    assert (row["state"] == "open") == dispute.is_open, (row, dispute)
    assert (row["state"] == "won") == dispute.is_ours, (row, dispute)


def every_charge_has_one_end(audit: Audit) -> None:
    """A ticket, a refund, a bank that took it back, or a person; and never more than all of it went back."""
    for row in audit.charges:
        gone = row["back"] + row["lost"]
        assert gone + row["disputed"] <= row["refund_reserved"] <= row["amount"], row
        if row["purpose"] != "fulfils":
            waits = (row["state"] == "review" or row["failed"] or row["disputed"] > 0) and gone < row["amount"]
            assert waits or gone == row["amount"], row
        elif row["booking"] == "cancelled":
            assert row["tickets"] == 0, row
        else:
            assert row["booking"] in {"confirmed", "completed"}, row
            assert row["tickets"] == row["seats"], row
    per_booking = Counter(row["booking_id"] for row in audit.charges if row["purpose"] == "fulfils")
    assert all(times == 1 for times in per_booking.values()), per_booking


def nobody_got_more_than_they_paid(audit: Audit) -> None:
    """By the gateways' own books; but who goes to their bank after a refund may have it twice, and a person knows."""
    beyond = {row["transaction_id"] for row in audit.charges if row["disputed_beyond"]}
    for attempt in audit.attempts:
        for taken in attempt.books.taken:
            paid = sum(
                refund.amount
                for refund in attempt.books.refunds
                if refund.transaction == taken.transaction and refund.outcome != "failed"
            )
            assert paid <= taken.amount, attempt
            lost = sum(
                dispute.amount
                for dispute in attempt.books.disputes
                if dispute.transaction == taken.transaction and not dispute.is_ours
            )
            is_excused = taken.transaction in beyond or taken.transaction in audit.lies
            assert paid + lost <= taken.amount or is_excused, attempt


async def sums_are_the_same(there: RunningHouse, audit: Audit, bookings: Sequence[UUID]) -> None:
    """What each gateway has of each booking is what the ledger says that it owes us or has paid into the bank."""
    lied = {charge["booking_id"] for charge in audit.charges if charge["transaction_id"] in audit.lies}
    theirs: defaultdict[tuple[UUID, str, str], int] = defaultdict(int)
    for attempt in audit.attempts:
        currencies = {taken.transaction: taken.currency for taken in attempt.books.taken}
        for taken in attempt.books.taken:
            key = (attempt.booking, attempt.gateway, taken.currency)
            theirs[key] += taken.amount - round_to_minor(taken.fee)
        for refund in attempt.books.refunds:
            if refund.outcome == "paid":
                theirs[attempt.booking, attempt.gateway, currencies[refund.transaction]] -= refund.amount
        for dispute in attempt.books.disputes:
            if not dispute.is_ours:
                theirs[attempt.booking, attempt.gateway, currencies[dispute.transaction]] -= dispute.amount
    rows = await there.box.rows(WITH_GATEWAYS, list(bookings))
    ours = {(row["booking_id"], row["gateway"], row["currency"]): row["amount"] for row in rows}
    for key in theirs.keys() | ours.keys():
        assert theirs.get(key, 0) == ours.get(key, 0) or key[0] in lied, (key, theirs.get(key), ours.get(key))
    moving = await there.box.value(ON_ITS_WAY_BACK, list(bookings))
    waiting = await there.box.value(REFUNDS_FOR_A_PERSON, list(bookings))
    assert (moving or 0) == waiting, "what is on its way back is what a person has to look at"


async def settled_leaves_nothing(there: RunningHouse, audit: Audit) -> None:
    """Of a settled transaction nothing stands in clearing but what a coming settlement will take."""
    first = datetime.now(UTC).date() - timedelta(days=2)
    async with there.box.db.reader() as reader:
        left = await banking_reads.clearing(reader, gateway="flutterwave", first=first, limit=1000)
    mine = {charge["transaction_id"] for charge in audit.charges} - audit.lies
    wrong = [one for one in left if one.transaction_id in mine and one.clearing != one.on_the_way]
    assert wrong == []
    found = [row for row in audit.breaks if row["transaction_id"] in mine]
    assert found == [], "what is the same everywhere is no difference"


async def nothing_is_owed_for_journeys_that_are_over(there: RunningHouse, bookings: Sequence[UUID]) -> None:
    """Once all buses have left or were cancelled, only what has bought nothing and has not gone back is owed still.

    But for bookings that a bank or a person has still to decide about, and those whose revenue a person has undone.
    """
    rows = await there.box.rows(
        "SELECT id, currency FROM booking WHERE id = ANY(%s)"
        " AND NOT EXISTS (SELECT FROM transfer WHERE booking_id = booking.id AND event LIKE 'reversal:%%')"
        " AND NOT EXISTS"
        " (SELECT FROM dispute WHERE booking_id = booking.id AND (state = 'open' OR attention <> ''))",
        list(bookings),
    )
    async with there.box.db.reader() as reader:
        books = await books_of_bookings(reader, currencies={row["id"]: row["currency"] for row in rows})
    for booking, found in books.items():
        owed = {owner: standing.owed for owner, standing in found.standings.items() if owner != UNSPENT}
        assert not any(owed.values()), (booking, found)


async def promises_are_kept(there: RunningHouse, house: House) -> None:
    """Seats, prices and statements, and whatever else the doctor asks."""
    async with there.box.db.pool.connection() as connection:
        found = await broken(connection, evidence([], []))
    for excused in EXCUSED_PROMISES:
        found.pop(excused, None)
    assert not found, found
    findings = [one for one in await examine(house) if one.check not in {"jobs", "webhook endpoints"}]
    assert all(finding.ok for finding in findings), findings
    for wrong in (WRONG_LINES, WRONG_TOTALS, WRONG_BALANCES):
        assert await there.box.rows(wrong) == []


async def payouts_are_the_same(there: RunningHouse) -> None:
    """Each payout that has arrived left once, to the minor unit, and nothing else left."""
    sent = (await there.sim.state())["transfers"]
    arrived = sorted(
        (one["reference"], one["currency"], minor(one["amount"], one["currency"]))
        for one in sent
        if one["status"] == "SUCCESSFUL"
    )
    ours = await there.box.rows(
        "SELECT id::text AS id, currency, amount FROM payout WHERE state IN ('succeeded', 'reconciled')"
    )
    assert arrived == sorted((row["id"], row["currency"], row["amount"]) for row in ours)


async def banks_have_what_was_settled(there: RunningHouse) -> None:
    """What the gateway has paid into the bank, less what operators got of it, is what the ledger says."""
    state = await there.sim.state()
    theirs: Counter[str] = Counter()
    for settlement in state["settlements"]:
        theirs[settlement["currency"]] += minor(settlement["net_amount"], settlement["currency"])
    rows = await there.box.rows(
        "SELECT currency, sum(CASE WHEN debit = 'bank:flutterwave' THEN amount ELSE -amount END)::bigint AS amount"
        " FROM transfer WHERE 'bank:flutterwave' IN (debit, credit) AND event NOT LIKE 'payout%%' GROUP BY currency"
    )
    ours = Counter({row["currency"]: row["amount"] for row in rows})
    assert ours == theirs


async def nothing_is_unheard_of(there: RunningHouse) -> None:
    """Of all money that gateways have, whatever its reference, there is no unit without a charge."""
    told = await taken_in_all(there)
    known: set[Any] = set()
    for row in await there.box.rows("SELECT payment_id, transaction_id FROM charge"):
        known |= {(str(row["payment_id"]), row["transaction_id"].removeprefix("chg_"))}
    assert [one for one in told if one not in known] == []


def _is_same(taken: Taken, charge: JsonObject) -> bool:
    told = (taken.amount, taken.currency, taken.fee)
    return told == (charge["amount"], charge["currency"], charge["fee_exact"])
