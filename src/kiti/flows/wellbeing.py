"""Is all well? The promises, asked of the database as it stands. `kiti doctor` prints the answers."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import msgspec
from psycopg.errors import UndefinedTable

from kiti.bookings import reads as booking_reads
from kiti.db import Reader, load
from kiti.db import queue as queue_reads
from kiti.db.migrate import newest
from kiti.disputes import reads as dispute_reads
from kiti.flows.house import House
from kiti.hooks import reads as hook_reads
from kiti.ledger import reads as ledger_reads
from kiti.messages import reads as message_reads
from kiti.payments import reads as payment_reads
from kiti.settlements import reads as settlement_reads

sql = load("kiti.db")

MOST_BREAKS = 1000
# A dispute that nobody has answered so shortly before the last moment is an alarm.
LAST_MOMENT = timedelta(hours=12)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check: what was looked at, whether it holds, and what to know or do."""

    check: str
    ok: bool
    detail: str


class _Revision(msgspec.Struct, frozen=True):
    revision: str


async def schema_revision(reader: Reader) -> str:
    """The migration that the database is at; `none` where it never saw one."""
    try:
        found = await reader.maybe(sql.revision, _Revision)
    except UndefinedTable:
        return "none"
    return found.revision if found else "none"


async def examine(house: House) -> list[Finding]:
    """Every check, in the order in which a person would ask."""
    checks: tuple[Callable[[Reader], Awaitable[Finding]], ...] = (
        _migrations,
        _ledger_balances,
        _ledger_covers_charges,
        _nobody_is_overdrawn,
        _statements_are_whole,
        _money_has_an_end,
        _confirmed_bookings_own_their_seats,
        _claims_have_owners,
        _nothing_is_parked,
        _books_agree,
        _disputes_are_answered,
        _messages,
    )
    async with house.db.reader() as reader:
        return [*[await check(reader) for check in checks], await _webhooks(house, reader)]


async def _migrations(reader: Reader) -> Finding:
    at = await schema_revision(reader)
    return Finding(check="migrations", ok=at == newest(), detail=f"at {at}, newest {newest()}")


async def _ledger_balances(reader: Reader) -> Finding:
    balances = await ledger_reads.balances(reader)
    sums: dict[str, int] = {}
    for balance in balances:
        sums[balance.currency] = sums.get(balance.currency, 0) + balance.balance
    wrong = {currency: total for currency, total in sums.items() if total}
    detail = f"{len(balances)} accounts in {len(sums)} currencies" if not wrong else f"off by {wrong}"
    return Finding(check="ledger sums to zero", ok=not wrong, detail=detail)


async def _ledger_covers_charges(reader: Reader) -> Finding:
    wrong = await ledger_reads.uncovered_charges(reader)
    detail = "every capture is posted to the minor unit"
    if wrong:
        detail = ", ".join(f"{c.transaction_id}: took {c.amount}, posted {c.posted}" for c in wrong[:5])
    return Finding(check="ledger covers charges", ok=not wrong, detail=detail)


async def _nobody_is_overdrawn(reader: Reader) -> Finding:
    wrong = await ledger_reads.overdrawn(reader)
    detail = "nobody has given back more than was paid in their name"
    if wrong:
        detail = ", ".join(
            f"booking {one.booking_id}: {one.account} at {one.amount} {one.currency}" for one in wrong[:5]
        )
    return Finding(check="liabilities", ok=not wrong, detail=detail)


async def _statements_are_whole(reader: Reader) -> Finding:
    left_out = await settlement_reads.left_out(reader)
    waiting = await settlement_reads.waiting(reader)
    detail = f"{waiting.settlements} settlements and {waiting.payouts} payouts for a person"
    if left_out:
        detail = "in no statement: " + ", ".join(f"{one.booking_id} {one.event}" for one in left_out[:5])
    return Finding(check="settlements", ok=not left_out, detail=detail)


async def _money_has_an_end(reader: Reader) -> Finding:
    stranded = await payment_reads.stranded_charges(reader)
    waiting = await payment_reads.attention(reader)
    detail = (
        f"{waiting.payments_in_review} payments in review, {waiting.refunds_needing_attention} refunds for a person"
    )
    if stranded:
        detail = "neither ticket nor refund: " + ", ".join(s.transaction_id for s in stranded[:5])
    return Finding(check="all money has an end", ok=not stranded, detail=detail)


async def _confirmed_bookings_own_their_seats(reader: Reader) -> Finding:
    strays = await booking_reads.confirmed_without_claims(reader)
    detail = "every confirmed booking owns its seats"
    if strays:
        detail = ", ".join(f"booking {s.booking_id} seat {s.seat}" for s in strays[:5])
    return Finding(check="bookings own their seats", ok=not strays, detail=detail)


async def _claims_have_owners(reader: Reader) -> Finding:
    strays = await booking_reads.claims_without_owner(reader)
    detail = "every claim has an owner"
    if strays:
        detail = ", ".join(f"trip {s.trip_id} seat {s.seat}" for s in strays[:5])
    return Finding(check="claims have owners", ok=not strays, detail=detail)


async def _nothing_is_parked(reader: Reader) -> Finding:
    parked = await queue_reads.parked(reader)
    detail = "no job is parked"
    if parked:
        detail = f"{len(parked)} parked jobs, first {parked[0].task}; see `kiti jobs parked`"
    return Finding(check="jobs", ok=not parked, detail=detail)


async def _books_agree(reader: Reader) -> Finding:
    """Never wrong by itself: what differs has a name and waits for a person."""
    found = await payment_reads.open_breaks(reader, limit=MOST_BREAKS)
    detail = "no difference is open"
    if found:
        number = f"{len(found)}" if len(found) < MOST_BREAKS else f"{MOST_BREAKS} or more"
        detail = f"{number} differences open, the oldest for {found[0].age_days} days; see `kiti reconcile`"
    return Finding(check="books agree", ok=True, detail=detail)


async def _disputes_are_answered(reader: Reader) -> Finding:
    waiting = await dispute_reads.waiting(reader)
    detail = f"{waiting.unanswered} disputes without an answer, {waiting.attention} for a person"
    left = None if waiting.answer_by is None else waiting.answer_by - datetime.now(UTC)
    if left is not None:
        detail += f"; the first until {waiting.answer_by:%Y-%m-%d %H:%M} UTC"
    is_late = left is not None and timedelta() < left < LAST_MOMENT
    return Finding(check="disputes", ok=not is_late, detail=detail)


async def _messages(reader: Reader) -> Finding:
    """Never wrong by itself: an address that a traveller mistyped is nothing that we could mend."""
    parked = await message_reads.parked(reader)
    number = f"{len(parked)}" if len(parked) < message_reads.MOST_PARKED else f"{len(parked)} or more"
    detail = f"{number} given up in seven days, the last: {parked[0].failure_reason}" if parked else "all were sent"
    if parked:
        detail += "; see `kiti messages parked`"
    return Finding(check="messages", ok=True, detail=detail)


async def _webhooks(house: House, reader: Reader) -> Finding:
    """Wrong only where we cannot sign: an endpoint that does not answer is its owner's to mend."""
    unreadable = await hook_reads.unreadable_secrets(reader, secret=house.settings.jwt_secret)
    found = await hook_reads.endpoints(reader, operator=None)
    ill = [f"{one.url} is {one.standing}" for one in found if one.standing in {"failing", "disabled"}]
    detail = f"{len(found)} endpoints" + (f"; {', '.join(ill[:3])}" if ill else "")
    if unreadable:
        which = ", ".join(str(one) for one in unreadable[:3])
        detail = f"secrets that JWT_SECRET does not open; rotate those of {which}"
    return Finding(check="webhook endpoints", ok=not unreadable, detail=detail)
