"""Payouts: write the intent down, ask the gateway once, follow it to its end.

A payout's id is the reference that the gateway sees. An answer that was lost is looked for at the gateway before
anybody asks again, and a refusal of a repeated request is not believed before that either: it may refuse because it has
the first one. What fails for good is reversed in the ledger, and paying again is another payout under another
reference, asked for by a person. A day after money has arrived the gateway is asked once more: banks send money back.
"""

from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core.errors import InvalidInput, NotAllowed
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows.announce import announce_paid_settlement
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.gateways.gateway import GatewayPayout, Missing, PayoutRequest, Payouts, Rejected, Unknown
from kiti.ledger import actions as ledger
from kiti.ledger.model import Entry
from kiti.ledger.payouts import payout_done, payout_failed, payout_returned, payout_started
from kiti.people.model import Staff
from kiti.settlements import actions as settlements
from kiti.settlements import reads
from kiti.settlements.model import Payout, PayoutState, State

# A request that is still on its way ends within the adapter's time-out; only after that is looking it up decisive.
IN_FLIGHT_SECONDS = 60
FOLLOW_UP_SECONDS = 15
MAX_FOLLOW_UP_SECONDS = 3600
MAX_ATTEMPTS = 5
GIVE_UP_SECONDS = 7 * 86_400
# Banks send back what they could not book within a day or so.
RECONCILE_AFTER_SECONDS = 86_400


async def request_payout(house: House, *, settlement: UUID, staff: Staff) -> UUID:
    """Have an approved statement paid, or one whose payout has failed: the payout's id.

    Written down, posted and due in one transaction. Raises NotAllowed for whoever approved it, NotFound, InvalidInput
    where the gateway sends no money, SettlementChanged.
    """
    require(staff, "settlements.approve")

    async def work(tx: Transaction) -> UUID:
        found = await reads.by_id(tx, settlement=settlement)
        require(staff, "settlements.approve", operator=found.operator_id)
        if found.approved_by == staff.actor:
            raise NotAllowed("You approved this statement, so somebody else has to have it paid.")
        await settlements.move(tx, settlement=found, to="paying")
        assert found.gateway is not None, "an approved statement has a gateway"
        _payouts(house, found.gateway)
        payout = await settlements.open_payout(tx, settlement=found, by=staff.actor)
        await ledger.post(
            tx,
            booking=settlement,
            event=f"payout_started:{payout}",
            currency=found.currency,
            entries=payout_started(found.gateway, operator=found.operator_id, amount=found.net),
        )
        detail = {"payout": str(payout), "amount": found.net, "currency": found.currency}
        event = Event(subject=settlement, actor=staff.actor, action="payout.requested", detail=detail)
        await audit.record(tx, events=[event])
        return payout

    return await house.db.run(work)


async def process_payout(house: House, payout_id: UUID) -> Payout:
    """Take a payout one step on; raises NotFound. Safe to call at any time, side by side and after a crash."""
    payout = await _read(house, payout_id)
    gateway = _payouts(house, payout.gateway)
    match payout.state:
        case "requested":
            return await _submit(house, gateway, payout)
        case "submitting" | "unknown":
            return await _look_for(house, gateway, payout)
        case "pending" | "succeeded":
            return await _follow(house, gateway, payout)
        case "needs_attention" | "reconciled" | "failed":
            return payout


async def heard_of(house: House, payout_id: UUID) -> Payout:
    """A gateway has told something of a payout; raises NotFound. That money arrived is asked for again a day later."""
    payout = await _read(house, payout_id)
    return payout if payout.state == "succeeded" else await process_payout(house, payout_id)


async def look_again(house: House, *, payout: UUID, staff: Staff) -> Payout:
    """A person has looked at it: believe what the gateway says now, also that it never heard of it.

    Raises NotAllowed, NotFound, SettlementChanged.
    """
    require(staff, "settlements.approve")
    found = await _read(house, payout)
    require(staff, "settlements.approve", operator=found.operator_id)
    if found.state != "needs_attention":
        return await process_payout(house, payout)
    told = await _payouts(house, found.gateway).find_payout(str(found.id))
    match told:
        case GatewayPayout():
            return await _adopt(house, found, told)
        case Missing():
            return await _fail(house, found, "The gateway does not know it.")
        case Unknown():
            return found


async def _submit(house: House, gateway: Payouts, payout: Payout) -> Payout:
    """Mark it as on its way, then ask. Whoever loses the guarded update does not ask."""
    await _move(house, payout, "submitting", seconds=IN_FLIGHT_SECONDS)
    moved = await _read(house, payout.id)
    answer = await gateway.pay_out(
        PayoutRequest(
            reference=str(payout.id),
            amount=Money(payout.amount, payout.currency),
            destination=payout.destination,
            narration=f"Kiti {payout.settlement_id}",
        )
    )
    match answer:
        case GatewayPayout():
            return await _adopt(house, moved, answer)
        case Rejected(reason=reason) if moved.attempts == 1:
            return await _fail(house, moved, reason)
        case Rejected(reason=reason) | Unknown(reason=reason):
            return await _move(house, moved, "unknown", seconds=IN_FLIGHT_SECONDS, reason=reason)


async def _look_for(house: House, gateway: Payouts, payout: Payout) -> Payout:
    """The answer was lost, or we died before it came: look whether the gateway has our payout."""
    told = await gateway.find_payout(str(payout.id))
    match told:
        case GatewayPayout():
            return await _adopt(house, payout, told)
        case Unknown():
            return await _later(house, payout)
        case Missing() if payout.is_in_flight:
            return payout
        case Missing() if payout.attempts >= MAX_ATTEMPTS:
            return await _ask_a_person(house, payout, "The gateway did not take it however often it was asked.")
        case Missing():
            return await _submit(house, gateway, payout)


async def _follow(house: House, gateway: Payouts, payout: Payout) -> Payout:
    """Ask how far it has come. One that has arrived is looked at once more before it is over."""
    told = await gateway.find_payout(str(payout.id))
    if isinstance(told, Missing | Unknown):
        return await _later(house, payout)
    if told.status == "pending" and payout.state == "pending":
        return await _later(house, payout)
    return await _adopt(house, payout, told)


async def _adopt(house: House, payout: Payout, told: GatewayPayout) -> Payout:
    """Bring our record to what the gateway says."""
    if told.status != "failed" and told.amount_exact != payout.amount:
        reason = f"The gateway sends {told.amount_exact} instead of {payout.amount} {payout.currency} (minor units)."
        return await _ask_a_person(house, payout, reason)
    match told.status, payout.state:
        case "failed", _:
            return await _fail(house, payout, told.failure_reason or "The gateway could not pay it out.", told=told)
        case "succeeded", "succeeded":
            return await _end(house, payout, "reconciled", settlement_state="reconciled", entries=[])
        case "succeeded", _:
            entries = payout_done(payout.gateway, amount=payout.amount, fee_exact=told.fee_exact)
            return await _end(house, payout, "succeeded", settlement_state="paid", entries=entries, told=told)
        case "pending", "succeeded":
            return await _later(house, payout)
        case _:
            return await _move(house, payout, "pending", seconds=FOLLOW_UP_SECONDS, told=told)


async def _fail(house: House, payout: Payout, reason: str, *, told: GatewayPayout | None = None) -> Payout:
    """It came to nothing, or came back: the operator is owed the money again."""
    undo = payout_returned if payout.state == "succeeded" else payout_failed
    entries = undo(payout.gateway, operator=payout.operator_id, amount=payout.amount)
    return await _end(house, payout, "failed", settlement_state="failed", entries=entries, told=told, reason=reason)


async def _end(
    house: House,
    payout: Payout,
    to: PayoutState,
    *,
    settlement_state: State,
    entries: list[Entry],
    told: GatewayPayout | None = None,
    reason: str | None = None,
) -> Payout:
    """Payout, statement and ledger change together, or not at all."""
    event_name = {"succeeded": "payout_done", "failed": "payout_failed"}.get(to, "")
    if to == "failed" and payout.state == "succeeded":
        event_name = "payout_returned"

    async def work(tx: Transaction) -> None:
        await settlements.move_payout(
            tx,
            payout=payout,
            to=to,
            act_after_seconds=RECONCILE_AFTER_SECONDS if to == "succeeded" else None,
            gateway_payout_id=None if told is None else told.payout_id,
            fee_exact=None if told is None else told.fee_exact,
            failure_reason=reason,
        )
        settlement = await reads.by_id(tx, settlement=payout.settlement_id)
        await settlements.move(tx, settlement=settlement, to=settlement_state)
        if settlement_state == "paid":
            await announce_paid_settlement(tx, settlement, payout=payout.id)
        if entries:
            await ledger.post(
                tx,
                booking=payout.settlement_id,
                event=f"{event_name}:{payout.id}",
                currency=payout.currency,
                entries=entries,
            )
        detail = {"payout": str(payout.id), "reason": reason}
        event = Event(subject=payout.settlement_id, actor=payout.gateway, action=f"payout.{to}", detail=detail)
        await audit.record(tx, events=[event])

    await house.db.run(work)
    return await _read(house, payout.id)


async def _ask_a_person(house: House, payout: Payout, reason: str) -> Payout:
    if payout.state in {"needs_attention", "succeeded"}:
        return await _later(house, payout)
    return await _move(house, payout, "needs_attention", seconds=None, reason=reason)


async def _later(house: House, payout: Payout) -> Payout:
    """Look again, ever less often: after a quarter minute at first, after an hour at most."""
    age_seconds = int((payout.now - payout.created_at).total_seconds())
    if age_seconds > GIVE_UP_SECONDS and payout.state != "succeeded":
        return await _ask_a_person(house, payout, "The gateway has not said for a week how this payout ended.")
    seconds = min(MAX_FOLLOW_UP_SECONDS, max(FOLLOW_UP_SECONDS, age_seconds // 4))
    async with house.db.transaction() as tx:
        await settlements.payout_later(tx, payout=payout, seconds=seconds)
    return payout


async def _move(
    house: House,
    payout: Payout,
    to: PayoutState,
    *,
    seconds: int | None,
    told: GatewayPayout | None = None,
    reason: str | None = None,
) -> Payout:
    async def work(tx: Transaction) -> None:
        await settlements.move_payout(
            tx,
            payout=payout,
            to=to,
            act_after_seconds=seconds,
            gateway_payout_id=None if told is None else told.payout_id,
            failure_reason=reason,
        )

    await house.db.run(work)
    return await _read(house, payout.id)


async def _read(house: House, payout: UUID) -> Payout:
    async with house.db.reader() as reader:
        return await reads.payout(reader, payout=payout)


def _payouts(house: House, name: str) -> Payouts:
    """The gateway, if it sends money; raises NotFound, InvalidInput."""
    gateway = house.gateway(name)
    if not isinstance(gateway, Payouts):
        raise InvalidInput("gateway", f"{name} sends no money from here. Choose another in the operator's terms.")
    return gateway
