"""Commands about disputes and the bank: see what travellers' banks want back, answer, import bank statements."""

from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console

from kiti.cli.serve import database, run_async
from kiti.core.money import Money
from kiti.core.settings import Settings, load
from kiti.disputes import reads as dispute_reads
from kiti.disputes.model import TRANSITIONS, Answer, Dispute, DisputeLine
from kiti.flows.bank_statements import COLUMNS, Imported, import_statement
from kiti.flows.dispute_answers import answer_dispute, looked_at
from kiti.flows.disputes import find_disputes

console = Console(soft_wrap=True)
MOST_SHOWN = 500
LARGEST_FILE_BYTES = 8 * 1024 * 1024
ACTOR = "command line"


@click.group()
def disputes() -> None:
    """Look after money that travellers' banks want back."""


@disputes.command("list")
@click.option("--all", "is_all", is_flag=True, help="Those that have ended too.")
@click.pass_obj
def list_(composition: Any, is_all: bool) -> None:  # noqa: FBT001 - click's way
    """Ask the gateways, then show what waits, the most urgent first."""
    with database(load()) as settings:
        silent, lines = run_async(_list(composition, settings, is_all))
    for line in lines:
        console.print(_told(line), highlight=False)
    if silent:
        console.print(f"{silent} gateways did not answer; this is what was known before.")


@disputes.command()
@click.argument("dispute_id", type=click.UUID)
@click.option("--comment", required=True, help="Why; the gateway reads it.")
@click.pass_obj
def accept(composition: Any, dispute_id: UUID, comment: str) -> None:
    """Give in: the traveller keeps the money."""
    _answer(composition, dispute_id, "accept", comment)


@disputes.command()
@click.argument("dispute_id", type=click.UUID)
@click.option("--comment", required=True, help="Why, with the address of a proof; the gateway reads it.")
@click.pass_obj
def contest(composition: Any, dispute_id: UUID, comment: str) -> None:
    """Contest: the traveller's bank decides."""
    _answer(composition, dispute_id, "contest", comment)


@disputes.command("done")
@click.argument("dispute_id", type=click.UUID)
@click.option("--note", required=True, help="What was done about it.")
@click.pass_obj
def done(composition: Any, dispute_id: UUID, note: str) -> None:
    """Say that a dispute which needed a person has been looked at."""
    with database(load()) as settings:
        run_async(_done(composition, settings, dispute_id, note))
    console.print("Noted.")


@click.group()
def banking() -> None:
    """Look after the bank's side of reconciliation."""


@banking.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def import_(composition: Any, file: Path) -> None:
    """Keep the lines of a bank statement, each once, and lay them beside the settlements that they pay."""
    if file.stat().st_size > LARGEST_FILE_BYTES:
        raise click.BadParameter(f"larger than {LARGEST_FILE_BYTES // 1024 // 1024} MiB; cut it into parts")
    try:
        statement = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise click.BadParameter("it is no UTF-8 text; save it as UTF-8 CSV") from None
    with database(load()) as settings:
        done = run_async(_import(composition, settings, statement))
    console.print(f"{done.lines} lines, {done.new} of them new; {done.matched} settlements found.", highlight=False)


import_.help = f"{import_.help}\n\nThe CSV names its columns: {', '.join(COLUMNS)}. Amounts are in major units."


def _answer(composition: Any, dispute: UUID, answer: Answer, comment: str) -> None:
    with database(load()) as settings:
        found = run_async(_send(composition, settings, dispute, answer, comment))
    match found.answer_state:
        case "sent":
            said = "the gateway has the answer"
        case "refused":
            said = f"the gateway refused the answer: {found.answer_failure}"
        case "submitting" | None:
            said = "the gateway did not say whether it has the answer; it is told again"
    console.print(f"Dispute {found.id} is {found.state}; {said}.", highlight=False)
    if found.answer_state == "refused":
        raise SystemExit(1)


def _told(line: DisputeLine) -> str:
    dispute = line.dispute
    amount = Money(dispute.amount, dispute.currency).format("en")
    until = (
        f", answer by {dispute.answer_by:%Y-%m-%d %H:%M} UTC" if dispute.can_be_answered and dispute.answer_by else ""
    )
    answer = f", {dispute.answer} {dispute.answer_state}" if dispute.answer else ""
    attention = f" ! {dispute.attention}" if dispute.attention else ""
    return f"{dispute.id} {dispute.state}{answer}{until}: {amount} of {line.reference}, {dispute.reason}{attention}"


async def _list(composition: Any, settings: Settings, is_all: bool) -> tuple[int, list[DisputeLine]]:  # noqa: FBT001
    async with composition.open_house(settings) as house:
        found = await find_disputes(house)
        async with house.db.reader() as reader:
            lines = await dispute_reads.lines(reader, states=list(TRANSITIONS), is_waiting=not is_all, limit=MOST_SHOWN)
        return found.silent, lines


async def _send(composition: Any, settings: Settings, dispute: UUID, answer: Answer, comment: str) -> Dispute:
    async with composition.open_house(settings) as house:
        return await answer_dispute(house, dispute=dispute, answer=answer, comment=comment, actor=ACTOR)


async def _done(composition: Any, settings: Settings, dispute: UUID, note: str) -> None:
    async with composition.open_house(settings) as house:
        await looked_at(house, dispute=dispute, note=note, actor=ACTOR)


async def _import(composition: Any, settings: Settings, statement: str) -> Imported:
    async with composition.open_house(settings) as house:
        return await import_statement(house, statement=statement, actor=ACTOR)


COMMANDS = (disputes, banking)
