"""`kiti settlements` and `kiti ledger`, in this process: who signs, what is shown, what is refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.earnings import Earnings, open_earnings
from tests.staff import PASSWORD, employ

from kiti.app import create_asgi, open_house, work
from kiti.cli import Composition, kiti
from kiti.core.errors import KitiError

SIGN = ("--password-stdin", "--email")


class Shell:
    """Runs commands against one database."""

    def __init__(self, earnings: Earnings, url: str) -> None:
        self.earnings = earnings
        self.environment = {"KITI_DEMO": "1", "DATABASE_URL": url, "NO_COLOR": "1", "COLUMNS": "200"}

    async def run(self, *arguments: str, stdin: str = PASSWORD + "\n") -> str:
        """What it says; raises what it refuses with."""
        composition = Composition(open_house=open_house, work=work, create_asgi=create_asgi)

        def invoke() -> Any:
            runner = CliRunner(env=self.environment)
            return runner.invoke(kiti, list(arguments), obj=composition, input=stdin)

        result = await asyncio.to_thread(invoke)
        if result.exception is not None:
            raise result.exception
        said: str = result.stdout
        return said.replace("\u00a0", " ")


@pytest.fixture
async def shell(fresh_url: str) -> AsyncIterator[Shell]:
    """A bus with one booking has left, and a month is over."""
    async with open_earnings(fresh_url) as earnings:
        trip = earnings.network.bus()
        await earnings.buy(trip, "1A")
        await earnings.after(trip)
        await earnings.recognise()
        await earnings.box.travel(minutes=33 * 24 * 60)
        yield Shell(earnings, fresh_url)


async def test_statements_are_made_shown_and_approved_by_two_people(shell: Shell, tmp_path: Path) -> None:
    assert "There are no statements" in await shell.run("settlements", "list")
    assert "1 processed, 0 failed" in await shell.run("jobs", "run", "calculate-settlements")
    (row,) = await shell.earnings.box.rows("SELECT id FROM settlement")
    listed = await shell.run("settlements", "list", "--operator", "pearl", "--state", "draft")
    assert str(row["id"]) in listed
    assert "UGX 60,000" in listed
    paper = tmp_path / "statement.pdf"
    assert "UGX 60,000" in await shell.run("settlements", "show", str(row["id"]), "--save", str(paper))
    assert paper.read_bytes().startswith(b"%PDF-")

    editor, approver = [await employ(shell.earnings.box.db, "platform_finance") for _ in range(2)]
    account = ("--kind", "bank", "--country", "ug", "--account", "0123", "--account-name", "Pearl")
    terms = ("settlements", "terms", "pearl", "UGX", "--gateway", "flutterwave", *account)
    assert "nobody has said" in await shell.run("settlements", "terms", "pearl")
    with pytest.raises(SystemExit):
        await shell.run(*terms)
    assert "to Pearl, bank UG" in await shell.run(*terms, *SIGN, editor.email)
    approve = ("settlements", "approve", str(row["id"]), *SIGN)
    with pytest.raises(KitiError, match="somebody else has to approve"):
        await shell.run(*approve, editor.email)
    with pytest.raises(KitiError, match="do not open an account"):
        await shell.run(*approve, approver.email, stdin="wrong password\n")
    assert "Approved: UGX 60,000" in await shell.run(*approve, approver.email)
    with pytest.raises(KitiError, match="somebody else has to have it paid"):
        await shell.run("settlements", "pay", str(row["id"]), *SIGN, approver.email)


async def test_the_ledger_is_exported_and_corrected_with_a_name_and_a_reason(shell: Shell) -> None:
    who = await employ(shell.earnings.box.db, "platform_finance")
    books = await shell.run("ledger", "export", "--format", "beancount")
    assert "open Liabilities:Operator-Payable:Pearl" in books
    (event,) = await shell.earnings.box.rows("SELECT booking_id, event FROM transfer WHERE event LIKE 'departed:%%'")
    correct = ("ledger", "correct", str(event["booking_id"]), event["event"], *SIGN, who.email)
    with pytest.raises(SystemExit):
        await shell.run(*correct)
    assert "Reversed" in await shell.run(*correct, "--reason", "It never left.")
    with pytest.raises(KitiError, match="was reversed before"):
        await shell.run(*correct, "--reason", "It never left.")
    (noted,) = await shell.earnings.box.rows("SELECT actor FROM audit_event WHERE action = 'ledger.corrected'")
    assert noted["actor"].startswith("staff:")
