"""How a booking can be paid: what the gateways can do, and what is said per operator, currency and country.

Nothing said: every way that a configured gateway has. For each operator of a booking, of what is said about one method
and gateway the most specific decides: the operator's own before what is said for all, a country's before anywhere. As
soon as something that fits is on, only what is on is possible; what is off is impossible either way. A booking over
several operators can be paid as all of them allow.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import get_args
from uuid import UUID

import msgspec

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.bookings import reads as booking_reads
from kiti.bookings.model import Booking
from kiti.core.errors import InvalidInput, KitiError, NotFound
from kiti.core.ids import new_id
from kiti.core.money import Money
from kiti.db import Transaction
from kiti.flows.house import House
from kiti.gateways.gateway import DirectCharges, FeeQuotes, Gateway, Guarded, Method, Rejected, Unknown
from kiti.network import reads as network_reads
from kiti.payments import actions as payments
from kiti.payments import reads as payment_reads
from kiti.payments.model import Channel, Option
from kiti.payments.reads import OptionLine

Pair = tuple[str, str]
UNSAID_PRIORITY = 100


class GatewayAtFault(KitiError):
    """The payment service cannot be used now, for a reason that has nothing to do with the traveller."""


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """A method through a gateway. `countries` (ISO 3166) are those whose phones the direct channel can ask.

    Cash has no channel: it is taken at a counter.
    """

    method: Method
    gateway: str
    channels: tuple[Channel, ...]
    countries: frozenset[str]


async def of_booking(house: House, booking: UUID) -> tuple[Booking, list[Way]]:
    """A booking, and how it can be paid, the first choice first and what rests last; raises NotFound."""
    async with house.db.reader() as reader:
        found = await booking_reads.by_id(reader, booking=booking)
        lines = await booking_reads.seats_of(reader, bookings=[booking])
        options = await payment_reads.options_of_booking(reader, booking=booking)
    operators = {line.operator_id for line in lines}
    all_ways = ways(house.gateways, options, operators=operators, currency=found.currency)
    return found, sorted(all_ways, key=lambda way: _is_resting(house.gateway(way.gateway)))


def ways(
    gateways: Mapping[str, Gateway], options: Sequence[Option], *, operators: Collection[UUID], currency: str
) -> list[Way]:
    """What gateways can do in this currency and all operators allow; options are those that fit the journey."""
    every = (_way(name, gateway, method, currency) for name, gateway in gateways.items() for method in get_args(Method))
    possible = [way for way in every if way is not None]
    priorities: dict[Pair, int] = {(way.method, way.gateway): 0 for way in possible}
    for operator in operators:
        allowed = _allowed([option for option in options if option.operator_id in {None, operator}], priorities)
        priorities = {pair: max(priorities[pair], priority) for pair, priority in allowed.items()}
    left = [way for way in possible if (way.method, way.gateway) in priorities]
    return sorted(left, key=lambda way: priorities[way.method, way.gateway])


def first_awake(house: House, fitting: Sequence[Way]) -> Way:
    """The first whose gateway can be asked now; raises GatewayAtFault."""
    for way in fitting:
        if not _is_resting(house.gateway(way.gateway)):
            return way
    raise GatewayAtFault("The payment service cannot be reached. You have not been charged; try again in a moment.")


async def fee_of(house: House, *, gateway: str, amount: Money) -> Decimal:
    """What a gateway says that it keeps of an amount, in minor units; raises NotFound, InvalidInput, GatewayAtFault."""
    asked = house.gateway(gateway)
    if not isinstance(asked, FeeQuotes):
        raise InvalidInput("gateway", f"{gateway} does not tell its fees beforehand.")
    answer = await asked.fee_of(amount)
    match answer:
        case Decimal():
            return answer
        case Rejected(reason=reason):
            raise InvalidInput("amount", f"{gateway} does not say: {reason}.")
        case Unknown(reason=reason):
            raise GatewayAtFault(f"{gateway} did not answer: {reason}. Try again in a moment.")


async def all_options(house: House) -> list[OptionLine]:
    """All that is said."""
    async with house.db.reader() as reader:
        return await payment_reads.options(reader)


async def say_option(
    house: House,
    *,
    operator_code: str,
    currency: str,
    country: str,
    method: Method,
    gateway: str,
    priority: int,
    is_on: bool,
    actor: str,
) -> None:
    """Say that a method through a gateway may be used, or may not; empty operator or country: all of them.

    Raises InvalidInput where no gateway of this name can do it, NotFound for an unknown operator.
    """
    if gateway not in house.gateways:
        raise InvalidInput("gateway", f"There is no gateway {gateway!r}. Use one of {', '.join(house.gateways)}.")
    if is_on and _way(gateway, house.gateways[gateway], method, currency) is None:
        raise InvalidInput("method", f"{gateway} does not take {method} in {currency}.")

    async def work(tx: Transaction) -> None:
        operator = await network_reads.operator_by_code(tx, code=operator_code) if operator_code else None
        option = Option(
            id=new_id(),
            operator_id=operator,
            currency=currency,
            country=country or None,
            method=method,
            gateway=gateway,
            priority=priority,
            is_on=is_on,
        )
        await payments.put_option(tx, option=option)
        await audit.record(tx, events=[_event(option, actor=actor, action="payment_option.said")])

    await house.db.run(work)


async def drop_option(house: House, option: UUID, *, actor: str) -> None:
    """Say nothing about it any more; raises NotFound."""

    async def work(tx: Transaction) -> None:
        said = next((one for one in await payment_reads.options(tx) if one.id == option), None)
        if said is None or not await payments.drop_option(tx, option=option):
            raise NotFound("There is no such payment option.")
        await audit.record(tx, events=[_event(said, actor=actor, action="payment_option.dropped")])

    await house.db.run(work)


def _is_resting(gateway: Gateway) -> bool:
    return isinstance(gateway, Guarded) and gateway.is_resting()


def _way(name: str, gateway: Gateway, method: Method, currency: str) -> Way | None:
    if not gateway.capabilities.takes(method, currency):
        return None
    if method == "CASH":
        return Way(method=method, gateway=name, channels=(), countries=frozenset())
    channels: list[Channel] = ["hosted"] if gateway.capabilities.hosted_page else []
    countries: frozenset[str] = frozenset()
    if method == "MOBILE_MONEY" and isinstance(gateway, DirectCharges):
        countries = gateway.direct_countries(currency)
    if countries:
        channels.append("direct")
    return Way(method=method, gateway=name, channels=tuple(channels), countries=countries) if channels else None


def _allowed(options: Sequence[Option], pairs: Collection[Pair]) -> dict[Pair, int]:
    """Which of these one operator allows, by what is said of them, and their priorities."""
    decided: dict[Pair, Option] = {}
    for option in sorted(options, key=lambda one: (one.operator_id is not None, one.country is not None)):
        decided[option.method, option.gateway] = option
    if any(option.is_on for option in options):
        return {pair: decided[pair].priority for pair in pairs if pair in decided and decided[pair].is_on}
    return {pair: UNSAID_PRIORITY for pair in pairs if pair not in decided}


def _event(option: Option, *, actor: str, action: str) -> Event:
    return Event(
        subject=option.operator_id or option.id,
        actor=actor,
        action=action,
        detail={
            "currency": option.currency,
            "country": option.country,
            "method": option.method,
            "gateway": option.gateway,
            "priority": option.priority,
            "is_on": option.is_on,
        },
    )
