"""Writing verbs of settlements and bank statements. Each is safe to repeat."""

from collections.abc import Sequence

from kiti.banking.model import BankLine, Item, Line, NewSettlement, Settlement
from kiti.core.errors import NotFound
from kiti.core.ids import new_id
from kiti.db import Transaction, load

sql = load("kiti.banking")


async def put_settlement(tx: Transaction, *, settlement: NewSettlement) -> None:
    """Write down what a gateway tells of a settlement; one that is posted stays as it was posted."""
    await tx.execute(
        sql.put_settlement,
        settlement_id=settlement.settlement_id,
        gateway=settlement.gateway,
        id=new_id(),
        day=settlement.day,
        currency=settlement.currency,
        gross=str(settlement.gross_exact),
        fee=str(settlement.fee_exact),
        refund=str(settlement.refund_exact),
        chargeback=str(settlement.chargeback_exact),
        cost=str(settlement.cost_exact),
        payout=str(settlement.payout_exact),
        net=str(settlement.net_exact),
        is_paid=settlement.is_paid,
    )


async def put_lines(tx: Transaction, *, settlement: NewSettlement, lines: Sequence[Line]) -> None:
    """Write down lines of a settlement, each transaction once."""
    await tx.execute(
        sql.put_lines,
        gateway=settlement.gateway,
        settlement_id=settlement.settlement_id,
        transactions=[line.transaction_id for line in lines],
        references=[line.reference for line in lines],
        gross=[str(line.gross_exact) for line in lines],
        fees=[str(line.fee_exact) for line in lines],
    )


async def lock_settlement(tx: Transaction, *, gateway: str, settlement_id: str) -> Settlement:
    """The settlement, which nobody else can post until the transaction ends; raises NotFound."""
    found = await tx.maybe(sql.lock_settlement, Settlement, gateway=gateway, settlement_id=settlement_id)
    if found is None:
        raise NotFound("There is no such settlement.")
    return found


async def serialise_attribution(tx: Transaction, *, gateway: str) -> None:
    """Wait for whoever looks right now for what a settlement of this gateway has held back."""
    await tx.execute(sql.serialise_attribution, gateway=gateway)


async def settle_items(tx: Transaction, *, settlement: Settlement, items: Sequence[Item]) -> None:
    """Write down what of ours is settled now; the keys refuse an item a second time."""
    await tx.send(
        sql.settle_items,
        gateway=settlement.gateway,
        settlement_id=settlement.settlement_id,
        bookings=[item.booking for item in items],
        kinds=[item.kind for item in items],
        items=[item.item_id for item in items],
        amounts=[item.amount for item in items],
    )


async def mark_posted(
    tx: Transaction, *, settlement: Settlement, refund_rest: int, dispute_rest: int, contradiction: int
) -> None:
    """The ledger has all of it; the rests are what was held back for nothing that we know."""
    await tx.execute(
        sql.posted,
        gateway=settlement.gateway,
        settlement_id=settlement.settlement_id,
        refund_rest=refund_rest,
        dispute_rest=dispute_rest,
        contradiction=contradiction,
    )


async def import_lines(tx: Transaction, *, lines: Sequence[BankLine], actor: str) -> int:
    """Keep lines of a bank statement; how many of them are new."""
    rows: list[tuple[bytes]] = await tx.many(
        sql.import_lines,
        tuple,
        digests=[line.digest for line in lines],
        days=[line.day for line in lines],
        amounts=[line.amount for line in lines],
        currencies=[line.currency for line in lines],
        references=[line.reference for line in lines],
        texts=[line.text for line in lines],
        actor=actor,
    )
    return len(rows)


async def match_line(tx: Transaction, *, digest: bytes, gateway: str, settlement_id: str) -> bool:
    """Say which settlement a bank line pays; False where that has been said before."""
    changed = await tx.execute(sql.match_line, digest=digest, gateway=gateway, settlement_id=settlement_id)
    return changed == 1
