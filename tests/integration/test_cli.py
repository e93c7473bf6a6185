"""The `kiti` command as a process: exit codes, one-line errors, and what it does to a database."""

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from tests import nursery

from kiti.core.settings import DEMO_DEFAULTS
from kiti.db.migrate import newest
from kiti.flows.upkeep import JOBS

SECRETS = {name: "a-long-random-value-" + name.lower() for name in DEMO_DEFAULTS}


class Kiti:
    """Runs commands in an environment that holds nothing but what a test gives."""

    def __init__(self, home: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KITI_DATA_DIR": str(home / "data"),
            "NO_COLOR": "1",
            # So that the processes are measured as well.
            **{name: value for name, value in os.environ.items() if name.startswith("COV")},
        }

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return nursery.run(["kiti", *arguments], {**self.environment, **environment})

    def from_nothing(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same by an interpreter that has to load the program first."""
        return nursery.run(["kiti", *arguments], self.environment, by_itself=True)

    def refuses(self, *arguments: str, **environment: str) -> str:
        """The one line with which a command ends that cannot be obeyed."""
        ended = self(*arguments, **environment)
        assert ended.returncode == 1, ended.stderr
        assert ended.stdout == ""
        (line,) = ended.stderr.splitlines()
        assert line.startswith("kiti: ")
        return line


@pytest.fixture
def kiti(tmp_path: Path) -> Kiti:
    return Kiti(tmp_path)


def ask(url: str, statement: str) -> int:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_help_names_the_commands_and_an_unknown_one_is_refused(kiti: Kiti) -> None:
    helped = kiti.from_nothing("--help")
    assert helped.returncode == 0
    for command in ("demo", "doctor", "jobs", "migrate", "seed-demo", "serve", "simulator", "worker"):
        assert command in helped.stdout
    unknown = kiti.from_nothing("sell-everything")
    assert unknown.returncode == 2
    assert "No such command 'sell-everything'" in unknown.stderr
    assert kiti("jobs", "run", "nothing").returncode == 2


def test_a_missing_secret_stops_the_start_with_one_line_that_names_it(kiti: Kiti) -> None:
    assert "JWT_SECRET is not set" in kiti.refuses("serve")
    short = {**SECRETS, "JOB_SECRET_KEY": "short"}
    assert "JOB_SECRET_KEY is a placeholder or shorter than 16 characters" in kiti.refuses("worker", **short)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KITI_PORT", "many"),
        ("KITI_BASE_URL", "kiti.example"),
        ("DATABASE_URL", "mysql://localhost/kiti"),
        ("KITI_LOG_FORMAT", "xml"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(kiti: Kiti, name: str, value: str) -> None:
    assert f"{name} is " in kiti.refuses("serve", **{**SECRETS, name: value})


def test_a_port_that_is_taken_is_said_before_anything_starts(kiti: Kiti) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = kiti.refuses("serve", **SECRETS, KITI_PORT=str(port))
    assert f"Cannot listen on 127.0.0.1:{port}" in line


def test_a_database_that_does_not_answer_is_said_in_postgresqls_words(kiti: Kiti) -> None:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    line = kiti.refuses("migrate", DATABASE_URL=f"postgresql://someone:secret@127.0.0.1:{port}/kiti")
    assert "PostgreSQL does not answer" in line
    assert "Connection refused" in line
    assert "secret" not in line


def test_migrate_brings_an_empty_database_up_and_other_commands_ask_for_it(kiti: Kiti, empty_url: str) -> None:
    assert "Run `kiti migrate`" in kiti.refuses("doctor", **SECRETS, DATABASE_URL=empty_url)
    for _ in range(2):
        migrated = kiti("migrate", DATABASE_URL=empty_url)
        assert migrated.returncode == 0, migrated.stderr
        assert newest() in migrated.stdout
    assert ask(empty_url, "SELECT count(*) FROM alembic_version") == 1


def test_seeding_twice_side_by_side_and_again_makes_one_demo_network(kiti: Kiti, fresh_url: str) -> None:
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(kiti, "seed-demo", "--days", "1", DATABASE_URL=fresh_url) for _ in range(2)]
        assert [ended.result().returncode for ended in both] == [0, 0]
    trips = ask(fresh_url, "SELECT count(*) FROM trip")
    assert trips > 0
    again = kiti("seed-demo", "--days", "1", DATABASE_URL=fresh_url)
    assert again.returncode == 0
    assert ask(fresh_url, "SELECT count(*) FROM trip") == trips


def test_doctor_is_content_with_a_sound_database_and_not_with_a_corrupted_one(kiti: Kiti, fresh_url: str) -> None:
    sound = kiti("doctor", **SECRETS, DATABASE_URL=fresh_url)
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert "!!" not in sound.stdout
    assert ask(
        fresh_url,
        "INSERT INTO seat_claim VALUES (gen_random_uuid(), '1A', 0, gen_random_uuid(), now(), 'infinity') RETURNING 1",
    )
    corrupted = kiti("doctor", **SECRETS, DATABASE_URL=fresh_url)
    assert corrupted.returncode == 1
    objections = [line for line in corrupted.stdout.splitlines() if "!!" in line]
    assert len(objections) == 1
    assert "claims have owners" in objections[0]


def test_doctor_objects_to_what_no_production_system_should_have(kiti: Kiti, fresh_url: str) -> None:
    strict = kiti("doctor", "--production", **SECRETS, DATABASE_URL=fresh_url, KITI_LIMITS="off", KITI_DEMO="1")
    assert strict.returncode == 1
    for objection in ("KITI_LIMITS is off", "KITI_DEMO is 1", "KITI_BASE_URL is not https://"):
        assert objection in strict.stdout


def test_jobs_can_be_listed_run_and_their_failures_seen_and_set_going_again(kiti: Kiti, fresh_url: str) -> None:
    listed = kiti("jobs", "list")
    assert listed.returncode == 0
    for job in JOBS:
        assert job in listed.stdout
    ran = kiti("jobs", "run", "expire-seats", **SECRETS, DATABASE_URL=fresh_url)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("expire-seats: 0 processed, 0 failed")
    assert "No job is parked" in kiti("jobs", "parked", **SECRETS, DATABASE_URL=fresh_url).stdout
    parked_job = ask(
        fresh_url,
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status, attempts)"
        " VALUES ('default', 'process_refund', 'failed', 16) RETURNING id",
    )
    parked = kiti("jobs", "parked", **SECRETS, DATABASE_URL=fresh_url)
    assert [str(parked_job), "process_refund", "16"] in [line.split() for line in parked.stdout.splitlines()]
    assert "There is no parked job 999" in kiti.refuses("jobs", "retry", "999", **SECRETS, DATABASE_URL=fresh_url)
    assert kiti("jobs", "retry", str(parked_job), **SECRETS, DATABASE_URL=fresh_url).returncode == 0
    assert ask(fresh_url, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'") == 1
