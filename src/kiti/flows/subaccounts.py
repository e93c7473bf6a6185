"""Accounts of operators at a gateway, to which payments could be split.

They are opened and listed here; no payment is split yet. A split pays the operator at once, before the journey and
before refunds, while the ledger owes operators only what has departed: until it can tell the one from the other, an
operator whose payments were split would be paid twice.
"""

import re
from collections.abc import Sequence

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core import text
from kiti.core.errors import InvalidInput
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.flows.payment_options import GatewayAtFault
from kiti.gateways.gateway import Destination, Rejected, Subaccount, SubaccountRequest, Subaccounts, Unknown
from kiti.network import reads as network_reads
from kiti.settlements import actions as settlements
from kiti.settlements import reads as settlement_reads
from kiti.settlements.model import NewSubaccount, OperatorSubaccount

CODE = re.compile(r"\+?[A-Za-z0-9-]{1,39}", re.ASCII)
LONGEST_NAME = 120
UNCLEAR = "The gateway did not say whether it has opened the account. Run this again: it looks before it asks."


async def open_subaccount(
    house: House, *, operator_code: str, gateway: str, wanted: SubaccountRequest, actor: str
) -> OperatorSubaccount:
    """Have a gateway open an account for an operator, once for each bank account; safe to repeat.

    Raises NotFound for an unknown operator or gateway, InvalidInput where the gateway has no such accounts or refuses,
    GatewayAtFault where it does not say.
    """
    _check(wanted)
    asked = house.gateway(gateway)
    if not isinstance(asked, Subaccounts):
        raise InvalidInput("gateway", f"{gateway} has no accounts for operators.")
    async with house.db.reader() as reader:
        operator = await network_reads.operator_by_code(reader, code=operator_code)
    new = NewSubaccount(
        operator_id=operator,
        gateway=gateway,
        bank=wanted.destination.bank,
        account=wanted.destination.account.removeprefix("+"),
        country=wanted.destination.country,
        name=wanted.destination.name,
        platform_percent=wanted.platform_percent,
        email=wanted.email,
        phone=wanted.phone,
    )
    is_new = await house.db.run(lambda tx: settlements.ask_subaccount(tx, new=new))
    known = await _written(house, new)
    if known.subaccount_id is not None:
        return known
    opened = None if is_new else await _found(asked, known)
    if opened is None:
        opened = await _open(house, asked, known)
    await house.db.run(lambda tx: _note(tx, known, opened, actor=actor))
    return await _written(house, new)


async def list_subaccounts(house: House) -> list[OperatorSubaccount]:
    """All that were opened, or asked for."""
    async with house.db.reader() as reader:
        return await settlement_reads.subaccounts(reader)


def _check(wanted: SubaccountRequest) -> None:
    """Raise InvalidInput for what is no account or no name."""
    to = wanted.destination
    for field, said in (("bank", to.bank), ("account", to.account)):
        if CODE.fullmatch(said) is None:
            raise InvalidInput(field, f"{said!r} is none: letters, digits and hyphens, up to 40 of them.")
    if not 1 <= len(text.clean(to.name, field="name")) <= LONGEST_NAME:
        raise InvalidInput("name", f"A name has up to {LONGEST_NAME} characters.")


async def _open(house: House, gateway: Subaccounts, known: OperatorSubaccount) -> Subaccount:
    answer = await gateway.open_subaccount(_request(known))
    match answer:
        case Subaccount():
            return answer
        case Rejected(reason=reason):
            await house.db.run(lambda tx: settlements.subaccount_refused(tx, asked=known))
            raise InvalidInput("account", f"{known.gateway} refuses it: {reason}")
        case Unknown():
            found = await _found(gateway, known)
            if found is None:
                raise GatewayAtFault(UNCLEAR)
            return found


async def _found(gateway: Subaccounts, known: OperatorSubaccount) -> Subaccount | None:
    """The account among all that the gateway has; raises GatewayAtFault."""
    listed = await gateway.subaccounts()
    if isinstance(listed, Unknown):
        raise GatewayAtFault(UNCLEAR)
    return next((one for one in listed if (one.bank, one.account) == (known.bank, known.account)), None)


def _request(known: OperatorSubaccount) -> SubaccountRequest:
    destination = Destination(
        kind="bank", country=known.country, bank=known.bank, account=known.account, name=known.name
    )
    return SubaccountRequest(
        destination=destination, platform_percent=known.platform_percent, email=known.email, phone=known.phone
    )


async def _written(house: House, new: NewSubaccount) -> OperatorSubaccount:
    async with house.db.reader() as reader:
        found = await settlement_reads.subaccounts(reader, operator=new.operator_id)
    return _same(found, new)


def _same(found: Sequence[OperatorSubaccount], new: NewSubaccount) -> OperatorSubaccount:
    key = (new.gateway, new.bank, new.account)
    return next(one for one in found if (one.gateway, one.bank, one.account) == key)


async def _note(tx: Transaction, known: OperatorSubaccount, opened: Subaccount, *, actor: str) -> None:
    if await settlements.subaccount_opened(
        tx, asked=known, subaccount_id=opened.subaccount_id, percent=opened.platform_percent
    ):
        detail = {"gateway": known.gateway, "subaccount": opened.subaccount_id, "bank": known.bank}
        event = Event(subject=known.operator_id, actor=actor, action="subaccount.opened", detail=detail)
        await audit.record(tx, events=[event])
