"""The house stays tidy: what CONTRIBUTING.md asks of the code and no linter knows, in the manner of TigerBeetle."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import kiti
from kiti.db import load

ROOT = Path(__file__).parents[2]
SOURCE = Path(kiti.__file__).parent
LONGEST_FUNCTION = 70
LONGEST_FILE = 500

# A name that says nothing about what is inside.
EMPTY_WORDS = {
    "util",
    "utils",
    "helper",
    "helpers",
    "common",
    "misc",
    "manager",
    "service",
    "repository",
    "base",
    "impl",
}
ROOT_PAGES = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}

# Who may open a transaction: the composition root, the doorways and the flows, and the module that makes them.
OPENERS = {"app.py", "cli", "web", "api", "jobs", "flows", "db"}
# Who may speak to another machine.
SPEAKERS = {"gateways", "simulator", "cli"}
NETWORK_MODULES = {"httpx", "requests", "aiohttp", "urllib.request", "http.client", "smtplib"}

WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM|TRUNCATE|MERGE INTO)\s+(?:ONLY\s+)?(?!SET\b|SKIP\b)([a-z_]+)")
OWNERS = {
    "audit": {"audit_event"},
    "banking": {"gateway_settlement", "gateway_settlement_line", "settled_item", "bank_line"},
    "bookings": {"booking", "booking_reference", "booking_seat", "cancelled_seat", "seat_replacement"},
    "disputes": {"dispute", "dispute_history"},
    "fees": {"booking_fee", "fee_rule"},
    "hooks": {"webhook_endpoint", "hook_event", "hook_delivery"},
    "idempotency": {"idempotency_key"},
    "ledger": {"transfer"},
    "messages": {"message"},
    "network": {
        "operator", "stop", "layout", "layout_seat", "layout_feature", "vehicle", "route", "route_stop", "fare",
        "schedule", "trip", "trip_stop", "refund_rule", "refund_fee",
    },
    "people": {"staff", "staff_session"},
    "payments": {
        "payment", "payment_history", "charge", "refund", "refund_history", "trip_refund", "webhook_delivery",
        "reconciliation_break",
        "reconciliation_run",
        "payment_option",
    },
    "cash": {"cash_receipt", "cash_handout"},
    "seats": {"seat_claim", "seat_block"},
    "settlements": {"settlement", "settlement_line", "settlement_terms", "payout", "subaccount"},
    "tickets": {"ticket", "ticket_key"},
    "waiting": {"waiting_room", "waiting_room_trip", "waiting_place_use"},
}  # fmt: skip


def programs(*places: str) -> Iterator[Path]:
    """Every Python file below these folders of the project."""
    for place in places:
        yield from sorted(file for file in (ROOT / place).rglob("*.py") if ".venv" not in file.parts)


# What bench/baseline measures us against is written in the way of others.
ALL = [file for file in programs("src", "tests", "bench", "docs") if "baseline" not in file.parts]
OURS = [*programs("src")]


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def room(file: Path) -> str:
    """The first folder below the package, or the file itself."""
    return file.relative_to(SOURCE).parts[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), named(file))


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{named(file)}:{node.lineno} {node.name} has {length} lines"
        for file in ALL
        for node in functions(file)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    # A slice's SQL stands in one file by design, so queries.sql is not counted.
    files = [*ALL, *SOURCE.rglob("*.html"), *SOURCE.rglob("*.typ")]
    long = [named(file) for file in files if len(file.read_text().splitlines()) > LONGEST_FILE]
    assert long == []


def test_names_say_what_is_inside() -> None:
    empty = [named(file) for file in ALL if EMPTY_WORDS & set(re.split(r"[_\W]+", named(file).lower()))]
    for file in ALL:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ClassDef):
                words = {word.lower() for word in re.findall(r"[A-Z][a-z0-9]*", node.name)}
                empty += [f"{named(file)}: {node.name}"] if EMPTY_WORDS & words else []
    assert empty == []


def test_the_front_hall_has_only_the_pages_that_readers_ask_for() -> None:
    assert {file.name for file in ROOT.glob("*.md")} == ROOT_PAGES


def test_only_flows_and_doorways_open_transactions() -> None:
    opened = [
        f"{named(file)}:{node.lineno}"
        for file in OURS
        if room(file) not in OPENERS
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and re.search(r"\b(db|database)\.(run|transaction)$", ast.unparse(node.func))
    ]
    assert opened == []


def test_only_gateways_and_programs_speak_to_other_machines() -> None:
    speaking = []
    for file in OURS:
        if room(file) in SPEAKERS:
            continue
        for node in ast.walk(tree(file)):
            imported = (
                {alias.name for alias in node.names}
                if isinstance(node, ast.Import)
                else {node.module or ""}
                if isinstance(node, ast.ImportFrom)
                else set()
            )
            speaking += [f"{named(file)}: {name}" for name in imported & NETWORK_MODULES]
    assert speaking == []


def test_nothing_of_ours_is_mocked() -> None:
    mock = re.compile(r"^\s*(from|import) unittest(\.mock| import mock)", re.MULTILINE)
    assert [
        named(file) for file in programs("tests") if mock.search(file.read_text()) or "mocker" in argument_names(file)
    ] == []


def argument_names(file: Path) -> set[str]:
    return {argument.arg for node in functions(file) for argument in node.args.args}


@pytest.mark.parametrize("piece", sorted(OWNERS))
def test_verbs_of_a_slice_take_the_transaction_first_and_the_rest_by_name(piece: str) -> None:
    for file, first in (("actions.py", "tx"), ("reads.py", "reader")):
        for node in tree(SOURCE / piece / file).body:
            if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_"):
                positional = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
                assert positional == [first], f"{piece}/{file}: {node.name}"


def test_a_slice_is_made_of_the_same_four_files() -> None:
    assert {file.parent.name for file in SOURCE.glob("*/queries.sql")} == {"db", *OWNERS}
    for piece in OWNERS:
        files = {file.name for file in (SOURCE / piece).iterdir() if file.is_file()}
        assert files >= {"__init__.py", "model.py", "queries.sql", "actions.py", "reads.py"}, piece


@pytest.mark.parametrize("package", sorted(file.parent.name for file in SOURCE.glob("*/queries.sql")))
def test_every_named_query_is_used_and_every_used_one_exists(package: str) -> None:
    used = set()
    for file in OURS:
        text = file.read_text()
        for name in re.findall(rf'^(\w+) = load\("kiti\.{package}"\)$', text, re.MULTILINE):
            used |= set(re.findall(rf"\b{name}\.(\w+)", text))
    assert used == {query.name.rpartition(".")[2] for query in load(f"kiti.{package}")}


@pytest.mark.parametrize("piece", sorted(OWNERS))
def test_only_the_owner_writes_a_table(piece: str) -> None:
    written: set[str] = set()
    for query in load(f"kiti.{piece}"):
        statement = re.sub(r"--.*|FOR (NO KEY )?UPDATE|DO UPDATE", "", query.text)
        written |= set(WRITES.findall(statement))
    assert written <= OWNERS[piece]


def test_sql_stands_in_sql_files() -> None:
    verb = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s[\s\S]*\b(FROM|INTO|SET|AS)\b")
    inline = [
        f"{named(file)}:{node.lineno}"
        for file in OURS
        if room(file) not in {"db", "simulator"}  # the simulator keeps its own little SQLite file
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and verb.match(node.value)
    ]
    assert inline == []


def test_no_file_names_a_place_of_the_machine_it_was_written_on() -> None:
    place = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w")
    texts = [*ALL, *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]
    assert [named(file) for file in texts if place.search(file.read_text())] == []


def test_every_link_of_a_page_leads_somewhere() -> None:
    dead = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            dead += [] if (page.parent / target).exists() else [f"{named(page)}: {target}"]
    assert dead == []
