"""Ledger, gateway, settlements and bank: each difference has a name, and what was settled leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import psycopg
import pytest
from tests.obliging import another_house
from tests.settling import Settling, Treasury, open_treasury

from kiti.core.errors import InvalidInput
from kiti.flows import breaks
from kiti.flows.bank_statements import import_statement, read_statement
from kiti.flows.banking import take_settlement
from kiti.flows.reconcile import reconcile
from kiti.flows.staff_refunds import refund_payment
from kiti.gateways.gateway import SettlementLine, Settlements
from kiti.people.model import Staff

FINANCE = Staff(id=UUID(int=2), email="f@kiti.example", name="Grace", role="platform_finance", operator=None)


@pytest.fixture
async def treasury(fresh_url: str) -> AsyncIterator[Treasury]:
    async with open_treasury(fresh_url) as there:
        yield there


async def refund(treasury: Treasury, transaction: str, amount: int | None = None) -> None:
    payment = UUID(treasury.gateway.taken[transaction].reference)
    await refund_payment(treasury.house, payment=payment, amount=amount, reason="Because.", staff=FINANCE)


def altered(treasury: Treasury, number: str, **changes: object) -> None:
    """The gateway tells a settlement differently."""
    told = treasury.gateway.settlements[number]
    treasury.gateway.settlements[number] = msgspec.structs.replace(told, **changes)


async def test_a_settlement_leaves_nothing_of_its_transactions_in_clearing(treasury: Treasury) -> None:
    """Three fees of 12.58: each capture has posted 13, the gateway keeps 37.74, and the bank cannot hold fractions."""
    for _ in range(3):
        await treasury.buy()
    assert len(await treasury.clearing()) == 3
    settled = treasury.gateway.settle()
    assert settled.net_exact == Decimal("179962.26")
    done = await treasury.compare()
    assert (done.settlements, done.differing, done.silent) == (1, 0, 0)
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == 179_962
    assert await treasury.balance("rounding:flutterwave") == -1
    assert await treasury.balance("gateway_fee:flutterwave") == 39
    assert await treasury.breaks() == set()


async def test_comparing_again_and_by_several_at_once_posts_a_settlement_once(
    treasury: Treasury, fresh_url: str
) -> None:
    _, transaction = await treasury.buy()
    await treasury.buy("1A", "1B")
    await refund(treasury, transaction, 20_000)
    await treasury.finish_refunds()
    treasury.gateway.settle()
    async with another_house(fresh_url, treasury.gateway) as other:
        await asyncio.gather(*(reconcile(house) for house in (treasury.house, other) * 3))
    await treasury.compare()
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()
    settled = "SELECT count(*) FROM settled_item"
    assert await treasury.box.value(settled) == 3


async def test_a_settlement_that_was_cut_short_is_posted_to_its_end(treasury: Treasury) -> None:
    """The lines are posted, and then the process dies before what is below the settlement itself."""
    await treasury.buy()
    told = treasury.gateway.settle()
    await treasury.box.rows(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'the power is out'; END $$"
    )
    await treasury.box.rows(
        "CREATE TRIGGER poison BEFORE UPDATE ON gateway_settlement FOR EACH ROW"
        " WHEN (NEW.posted_at IS NOT NULL) EXECUTE FUNCTION poison()"
    )
    with pytest.raises(psycopg.errors.RaiseException):
        await take_settlement(treasury.house, "flutterwave", told)
    posted = "SELECT count(*) FROM settled_item"
    assert await treasury.box.value(posted) == 1
    assert await treasury.balance("rounding:flutterwave") == 0
    await treasury.box.rows("DROP TRIGGER poison ON gateway_settlement")
    await treasury.compare()
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()


async def test_a_webhook_that_was_missed_is_repaired_and_then_settled(treasury: Treasury) -> None:
    held, reference = await treasury.hold()
    treasury.gateway.pay(reference)
    treasury.gateway.settle()
    done = await treasury.compare()
    assert (done.repaired, done.differing) == (1, 0)
    state = "SELECT state FROM booking WHERE id = %s"
    assert await treasury.box.value(state, held.booking) == "confirmed"
    assert await treasury.clearing() == {}


async def test_money_that_becomes_known_after_its_settlement_moves_to_its_booking(treasury: Treasury) -> None:
    held, reference = await treasury.hold()
    treasury.gateway.pay(reference)
    told = treasury.gateway.settle()
    await take_settlement(treasury.house, "flutterwave", told)
    bank = await treasury.balance("bank:flutterwave")
    below = await treasury.clearing()
    assert list(below.values()) == [-59_987]
    assert held.booking not in below
    await treasury.compare()
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == bank == treasury.paid_out()
    assert await treasury.breaks() == set()


async def test_refunds_are_held_back_by_the_settlement_that_says_so(treasury: Treasury) -> None:
    """One before its charge is settled, one after, one that is only on its way when the gateway holds it back."""
    _, before = await treasury.buy("1A")
    _, after = await treasury.buy("1B")
    _, early = await treasury.buy("1C")
    await refund(treasury, before, 10_000)
    await treasury.finish_refunds()
    treasury.gateway.settle()
    await treasury.compare()
    assert await treasury.clearing() == {}
    await refund(treasury, after)
    await treasury.finish_refunds()
    assert list((await treasury.clearing()).values()) == [-60_000]
    assert (await treasury.compare()).differing == 0, "what the next settlement will hold back is no break"
    treasury.gateway.refund_status_now = "pending"
    await refund(treasury, early, 5_000)
    await treasury.finish_refunds()
    treasury.gateway.settle()
    assert (await treasury.compare()).differing == 0
    assert list((await treasury.clearing()).values()) == [5_000]
    for number, told in treasury.gateway.refunds.items():
        treasury.gateway.refunds[number] = msgspec.structs.replace(told, status="succeeded")
    await treasury.finish_refunds()
    assert await treasury.clearing() == {}
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()
    assert await treasury.breaks() == set()


async def test_a_fee_that_the_traveller_has_borne_is_no_cost_and_no_break(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle()
    line = msgspec.structs.replace(told.lines[0], gross_exact=told.lines[0].gross_exact + told.lines[0].fee_exact)
    altered(treasury, told.settlement_id, lines=(line,), gross_exact=line.gross_exact, net_exact=Decimal(60_000))
    await treasury.compare()
    assert await treasury.clearing() == {}
    assert await treasury.balance("gateway_fee:flutterwave") == 0
    assert await treasury.balance("bank:flutterwave") == 60_000
    assert await treasury.breaks() == set()


KINDS = ["missing_ours", "missing_theirs", "amount", "fee", "status", "duplicate"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_settlement_tells_differently_has_a_name_until_it_is_gone(treasury: Treasury, kind: str) -> None:
    _, transaction = await treasury.buy()
    honest = treasury.gateway.settle()
    line, number = honest.lines[0], honest.settlement_id
    about = transaction
    old = datetime.now(UTC).date() - timedelta(days=10)
    match kind:
        case "missing_ours":
            about = "424242"
            foreign = SettlementLine(
                transaction_id=about, reference="another shop", gross_exact=Decimal(500), fee_exact=Decimal(0)
            )
            more = honest.net_exact + 500
            altered(treasury, number, lines=(line, foreign), gross_exact=honest.gross_exact + 500, net_exact=more)
        case "missing_theirs":
            del treasury.gateway.settlements[number]
            await treasury.box.rows("UPDATE charge SET captured_at = captured_at - interval '9 days'")
        case "amount":
            short = msgspec.structs.replace(line, gross_exact=line.gross_exact - 100)
            altered(treasury, number, lines=(short,), net_exact=honest.net_exact - 100)
        case "fee":
            dear = msgspec.structs.replace(line, fee_exact=line.fee_exact + Decimal("0.1"))
            altered(treasury, number, lines=(dear,), net_exact=honest.net_exact - Decimal("0.1"))
        case "status":
            about = f"settlement {number}"
            altered(treasury, number, is_paid=False, day=old)
        case _:
            again = msgspec.structs.replace(honest, settlement_id="999")
            treasury.gateway.settlements["999"] = again
    await treasury.compare()
    assert await treasury.breaks() == {(about, kind, "ledger_settlement")}
    found = "SELECT found_at FROM reconciliation_break"
    first = await treasury.box.value(found)
    await treasury.compare()
    assert await treasury.box.value(found) == first
    if kind in {"missing_theirs", "status"}:
        treasury.gateway.settlements[number] = honest
        await treasury.compare()
        assert await treasury.breaks() == set()
        assert await treasury.clearing() == {}
    else:
        # Nothing can be said about the bank that is not so.
        assert await treasury.balance("bank:flutterwave") == treasury.paid_out()
        assert await treasury.clearing() != {} or kind == "fee"


async def test_refunds_of_nobody_are_named_and_stay_below_the_settlement(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle()
    altered(treasury, told.settlement_id, refund_exact=Decimal(700), net_exact=told.net_exact - 700)
    await treasury.compare()
    assert await treasury.breaks() == {(f"settlement {told.settlement_id}", "amount", "ledger_settlement")}
    assert list((await treasury.clearing()).values()) == [700]
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()


async def test_figures_that_contradict_one_another_are_no_rounding(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle()
    altered(treasury, told.settlement_id, net_exact=told.net_exact - 5_000)
    await treasury.compare()
    assert await treasury.breaks() == {(f"settlement {told.settlement_id}", "amount", "ledger_settlement")}
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out()
    assert abs(await treasury.balance("rounding:flutterwave")) <= 1


async def test_costs_of_no_payment_and_payouts_lessen_the_bank_and_are_no_break(treasury: Treasury) -> None:
    """A fee for a dispute is a cost; what the gateway sent to operators left the bank when the payout was posted."""
    await treasury.buy()
    told = treasury.gateway.settle()
    fees = await treasury.balance("gateway_fee:flutterwave")
    less = Decimal(1_500) + 20_000
    altered(
        treasury,
        told.settlement_id,
        cost_exact=Decimal(1_500),
        payout_exact=Decimal(20_000),
        net_exact=told.net_exact - less,
    )
    for _ in range(2):
        await treasury.compare()
    assert await treasury.breaks() == set()
    assert await treasury.clearing() == {}
    assert await treasury.balance("gateway_fee:flutterwave") == fees + 1_500
    assert await treasury.balance("bank:flutterwave") == treasury.paid_out() + 20_000


async def test_a_silent_gateway_closes_nothing(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle()
    altered(treasury, told.settlement_id, net_exact=told.net_exact - 5_000)
    await treasury.compare()
    before = await treasury.breaks()
    treasury.gateway.mute = True
    done = await treasury.compare(days=1)
    assert (done.silent, done.settlements) == (3, 0)
    assert await treasury.breaks() == before


async def test_what_a_person_has_closed_stays_closed_until_it_is_told_differently(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle()
    altered(treasury, told.settlement_id, refund_exact=Decimal(700), net_exact=told.net_exact - 700)
    await treasury.compare()
    found = await breaks.breaks(treasury.house, staff=FINANCE, wanted=usual(treasury))
    assert [one.kind for one in found] == ["amount"]
    await breaks.take_on(treasury.house, staff=FINANCE, break_=found[0].id)
    with pytest.raises(InvalidInput):
        await breaks.close(treasury.house, staff=FINANCE, break_=found[0].id, resolution=" ")
    await breaks.close(treasury.house, staff=FINANCE, break_=found[0].id, resolution="Refunded in the dashboard.")
    await treasury.compare()
    assert await treasury.breaks() == set()
    sides = await breaks.sides_of(treasury.house, staff=FINANCE, break_=found[0].id)
    assert (sides.break_.assigned_to, sides.break_.resolution) == ("Grace", "Refunded in the dashboard.")
    assert [step.action for step in sides.history] == ["break.assigned", "break.closed"]
    await treasury.box.rows("UPDATE gateway_settlement SET refund_rest = 800")
    await treasury.compare()
    assert len(await treasury.breaks()) == 1


def usual(treasury: Treasury) -> breaks.Filter:
    return breaks.filter_of(treasury.house, gateway="", kind="", since="", until="", state="")


async def test_money_that_was_missed_can_be_taken_over_by_hand(treasury: Treasury) -> None:
    """The gateway does not lay it to a day that is compared, so only its settlement tells of it."""
    held, reference = await treasury.hold()
    transaction = treasury.gateway.pay(reference)
    treasury.gateway.settle()
    missed = treasury.gateway.taken.pop(transaction)
    await treasury.compare()
    (found,) = await breaks.breaks(treasury.house, staff=FINANCE, wanted=usual(treasury))
    assert (found.kind, found.transaction_id) == ("missing_ours", transaction)
    with pytest.raises(breaks.NothingToSettle, match="does not know"):
        await breaks.settle_now(treasury.house, staff=FINANCE, break_=found.id)
    treasury.gateway.taken[transaction] = missed
    settled = await breaks.settle_now(treasury.house, staff=FINANCE, break_=found.id)
    assert (settled.booking_id, settled.state) == (held.booking, "captured")
    assert await treasury.breaks() == set()
    await treasury.compare()
    assert await treasury.clearing() == {}


# -------------------------------------------------------------------- the bank


def statement(*rows: str) -> str:
    return "\n".join(["date,amount,currency,reference,text", *rows])


async def test_a_bank_statement_is_kept_once_and_laid_beside_the_settlement(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle(day=datetime.now(UTC).date() - timedelta(days=8))
    await treasury.compare()
    today = datetime.now(UTC).date()
    far = statement(f"{today},1.00,KES,x,other currencies say nothing", f"{today},5,UGX,y,coffee")
    await import_statement(treasury.house, statement=far, actor="test")
    await treasury.compare()
    settlement = f"settlement {told.settlement_id}"
    assert await treasury.breaks() == {(settlement, "missing_theirs", "settlement_bank")}
    line = statement(f"{told.day + timedelta(days=1)},59987.00,UGX,FLW payout,no number at all")
    done = await import_statement(treasury.house, statement=line, actor="test")
    assert (done.lines, done.new, done.matched) == (1, 1, 1)
    again = await import_statement(treasury.house, statement=line, actor="test")
    assert (again.new, again.matched) == (0, 0)
    await treasury.compare()
    assert await treasury.breaks() == set()
    twice = statement(f"{told.day},59987.00,UGX,FLW{told.settlement_id},the same once more")
    await import_statement(treasury.house, statement=twice, actor="test")
    await treasury.compare()
    assert await treasury.breaks() == {(settlement, "duplicate", "settlement_bank")}


async def test_a_bank_line_that_names_a_settlement_with_another_amount_is_named(treasury: Treasury) -> None:
    await treasury.buy()
    told = treasury.gateway.settle()
    await treasury.compare()
    short = statement(f"{told.day},59000,UGX,REF {told.settlement_id},less than told")
    assert (await import_statement(treasury.house, statement=short, actor="test")).matched == 1
    await treasury.compare()
    assert await treasury.breaks() == {(f"settlement {told.settlement_id}", "amount", "settlement_bank")}


def test_equal_lines_of_a_day_are_two_and_the_same_file_gives_the_same() -> None:
    text = statement("2026-11-24,5.00,KES,a,b", "2026-11-24,5.00,KES,a,b", "2026-11-24,-5.00,KES,a,b")
    lines = read_statement(text)
    assert [line.amount for line in lines] == [500, 500, -500]
    assert len({line.digest for line in lines}) == 3
    assert read_statement("\ufeff" + text.replace(",", ";")) == lines


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("24.11.2026,5,KES,a,b", "Line 2: '24.11.2026' is no date"),
        ("2026-11-24,5.001,KES,a,b", "no whole number of minor units of KES"),
        ("2026-11-24,5.5,UGX,a,b", "no whole number of minor units of UGX"),
        ("2026-11-24,1e9,UGX,a,b", "is no amount"),
        ("2026-11-24,1,XXX,a,b", "'XXX' is not a currency"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(row: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read_statement(statement(row))


def test_a_statement_without_columns_says_which() -> None:
    with pytest.raises(InvalidInput, match="currency, reference, text is missing"):
        read_statement("date,amount\n2026-11-24,1\n")


def test_the_scripted_gateway_has_the_verbs_of_the_protocol() -> None:
    assert isinstance(Settling(), Settlements)
