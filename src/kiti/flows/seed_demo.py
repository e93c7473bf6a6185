"""`kiti seed-demo`: write the demo network and its trips. Again and side by side it does no harm."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from uuid import UUID

import msgspec

from kiti.core.ids import new_id
from kiti.db import Database, Transaction
from kiti.fees import actions as fees
from kiti.fees import reads as fee_reads
from kiti.flows import demo_network
from kiti.flows.demo_network import DemoRoute
from kiti.flows.passwords import hash_password
from kiti.gateways.gateway import Destination
from kiti.network import actions as network
from kiti.people import actions as people
from kiti.people import reads as people_reads
from kiti.people.model import NewStaff, Role
from kiti.settlements import actions as settlements
from kiti.settlements import reads as settlement_reads
from kiti.settlements.model import Terms

# Accounts of the demo, which everybody knows: they are made in demo mode only.
DEMO_PASSWORD = "kiti-demo-staff"  # noqa: S105 - no secret
DEMO_STAFF: tuple[tuple[str, str, Role, str | None], ...] = (
    ("admin@demo.example", "Ada Admin", "platform_admin", None),
    ("finance@demo.example", "Femi Finance", "platform_finance", None),
    ("operator@demo.example", "Okello Operator", "operator_finance", "korongo"),
    ("door@demo.example", "Dora Door", "operator_staff", "korongo"),
)


class Seeded(msgspec.Struct, frozen=True, kw_only=True):
    """How much the demo network has, and how many trips this run added."""

    operators: int
    stops: int
    layouts: int
    routes: int
    schedules: int
    trips_made: int


async def seed_demo(db: Database, *, today: date | None = None, days: int = 30) -> Seeded:
    """Write the network, and the trips of today (UTC) and the `days` after it, in one transaction.

    What is there already stays or is brought up to date; a later run adds the days that are missing.
    """
    start = today or datetime.now(UTC).date()
    operators, stops, layouts = demo_network.operators(), demo_network.stops(), demo_network.layouts()
    routes = demo_network.routes()
    async with db.transaction() as tx:
        await network.take_turns(tx)
        for operator in operators:
            await network.add_operator(tx, operator=operator)
        for stop in stops:
            await network.add_stop(tx, stop=stop)
        for layout in layouts:
            await network.add_layout(tx, layout=layout)
        await _seed_fees(tx)
        made = sum([await _seed_route(tx, route, start=start, days=days) for route in routes])
        await _seed_terms(tx, routes)
    return Seeded(
        operators=len(operators),
        stops=len(stops),
        layouts=len(layouts),
        routes=len(routes),
        schedules=sum(len(route.schedules) for route in routes),
        trips_made=made,
    )


async def seed_staff(db: Database) -> int:
    """Make the demo's accounts, all with DEMO_PASSWORD; how many were missing. For demo mode only."""
    password_hash = await hash_password(DEMO_PASSWORD)

    async def work(tx: Transaction) -> int:
        await network.take_turns(tx)
        made = 0
        for email, name, role, code in DEMO_STAFF:
            if await people_reads.accounts(tx, email=email):
                continue
            operator = None if code is None else (await people_reads.operator_by_code(tx, code=code)).id
            account = NewStaff(
                id=new_id(), email=email, name=name, role=role, operator=operator, password_hash=password_hash
            )
            await people.add(tx, staff=account)
            made += 1
        return made

    return await db.run(work)


async def _seed_fees(tx: Transaction) -> None:
    """What nobody has said otherwise: a rule that was set or ended by hand stays so."""
    known = {(rule.operator_id, rule.kind, rule.currency) for rule in [one.rule for one in await fee_reads.listed(tx)]}
    for rule in demo_network.fee_rules():
        if (rule.operator_id, rule.kind, rule.currency) not in known:
            await fees.set_rule(tx, rule=rule)


async def _seed_terms(tx: Transaction, routes: Sequence[DemoRoute]) -> None:
    """Say how the operators are settled with, unless somebody has."""
    currencies: dict[UUID, set[str]] = {}
    for demo in routes:
        currencies.setdefault(demo.route.operator_id, set()).update(fare.currency for fare in demo.fares)
    account = Destination(kind="mobile_money", country="UG", bank="MPS", account="256772000111", name="Demo operator")
    for operator, sold_in in currencies.items():
        known = {terms.currency for terms in await settlement_reads.terms_of(tx, operator=operator)}
        for currency in sorted(sold_in - known):
            terms = Terms(
                operator_id=operator,
                currency=currency,
                period="monthly",
                minimum_payout=0,
                gateway="flutterwave",
                destination=account,
                set_by="system",
            )
            await settlements.put_terms(tx, terms=terms)


async def _seed_route(tx: Transaction, demo: DemoRoute, *, start: date, days: int) -> int:
    await network.add_route(tx, route=demo.route)
    await network.set_fares(tx, route=demo.route.id, fares=demo.fares)
    await network.add_vehicle(tx, vehicle=demo.vehicle)
    made = 0
    for schedule in demo.schedules:
        await network.add_schedule(tx, schedule=schedule)
        made += await network.generate_trips(tx, schedule=schedule.id, from_date=start, days=days + 1)
    return made
