"""The embedded PostgreSQL starts again whatever was killed before, and ends with the last that uses it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from kiti.db.embedded import CONFIGURATION, EmbeddedDatabase

FAST = CONFIGURATION + "fsync = off\n"
PROGRAM = f"""
import sys
from pathlib import Path
from kiti.db.embedded import EmbeddedDatabase
embedded = EmbeddedDatabase(Path(sys.argv[1]), settings={FAST!r})
print(embedded.start(), flush=True)
sys.stdin.read()
embedded.stop()
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a cluster may be made; a short path, as its Unix socket needs one."""
    home = Path(tempfile.mkdtemp(prefix="kiti-emb-"))
    yield home / "pg"
    for pid in servers(home / "pg"):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A cluster that was started, filled and stopped, to be copied."""
    home = Path(tempfile.mkdtemp(prefix="kiti-emb-"))
    embedded = EmbeddedDatabase(home / "pg", settings=FAST)
    with psycopg.connect(embedded.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n integer)")
        connection.execute("INSERT INTO kept VALUES (1)")
    embedded.stop()
    yield home / "pg"
    shutil.rmtree(home)


@pytest.fixture
def cluster(directory: Path, made: Path) -> Path:
    """A stopped cluster with one row in it."""
    subprocess.run(["cp", "-a", str(made), str(directory)], check=True)
    return directory


def servers(directory: Path) -> list[int]:
    """The processes of PostgreSQL that work in a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "postgres" and Path(process.cwd()) == directory:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def postmaster(directory: Path) -> int:
    return int((directory / "postmaster.pid").read_text().partition("\n")[0])


def kill(directory: Path) -> None:
    """kill -9 of the postmaster; its children notice by themselves."""
    process = psutil.Process(postmaster(directory))
    process.kill()
    process.wait(10)


def kept(url: str) -> int:
    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def another_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        if process.poll() is None:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_what_was_written_is_there_after_a_stop_and_a_start(cluster: Path) -> None:
    embedded = EmbeddedDatabase(cluster, settings=FAST)
    assert kept(embedded.start()) == 1
    embedded.stop()
    embedded.stop()
    assert servers(cluster) == []


def test_a_killed_server_is_recovered_by_the_next_start(cluster: Path) -> None:
    first = EmbeddedDatabase(cluster, settings=FAST)
    with psycopg.connect(first.start(), autocommit=True) as connection:
        connection.execute("INSERT INTO kept VALUES (2)")
        kill(cluster)
    second = EmbeddedDatabase(cluster, settings=FAST)
    assert kept(second.start()) == 2
    second.stop()
    first.stop()
    assert servers(cluster) == []


def test_a_server_that_dies_under_us_can_be_revived_at_the_same_address(cluster: Path) -> None:
    embedded = EmbeddedDatabase(cluster, settings=FAST)
    url = embedded.start()
    assert not embedded.revive()
    kill(cluster)
    assert embedded.revive()
    assert kept(url) == 1
    embedded.stop()
    assert servers(cluster) == []


@pytest.mark.parametrize("left", ["whole", "cut off", "empty"])
def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(cluster: Path, left: str) -> None:
    stranger = os.getpid()
    lines = {
        "whole": f"{stranger}\n{cluster}\n1700000000\n5432\n{cluster}\n\n  1  1\nready   \n",
        "cut off": f"{stranger}\n{cluster}\n",
        "empty": "",
    }
    (cluster / "postmaster.pid").write_text(lines[left])
    embedded = EmbeddedDatabase(cluster, settings=FAST)
    assert kept(embedded.start()) == 1
    assert postmaster(cluster) != stranger
    embedded.stop()


def test_a_half_made_cluster_is_made_again(directory: Path) -> None:
    directory.mkdir()
    (directory / "PG_VERSION").write_text("18\n")
    (directory / "base").mkdir()
    unfinished = directory.with_name("pg.new")
    unfinished.mkdir()
    (unfinished / "global").mkdir()
    embedded = EmbeddedDatabase(directory, settings=FAST)
    with psycopg.connect(embedded.start()) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("kiti",)
    embedded.stop()
    assert not unfinished.exists()


def test_a_killed_user_does_not_keep_the_server_running(cluster: Path) -> None:
    with another_process(cluster) as killed:
        assert "postgresql://" in said(killed)
        killed.kill()
        killed.wait()
    (cluster / ".handle_pids.json").write_text(f"[{killed.pid}, {os.getpid()}, 1]")
    embedded = EmbeddedDatabase(cluster, settings=FAST)
    running = servers(cluster)
    assert kept(embedded.start()) == 1
    assert postmaster(cluster) in running
    embedded.stop()
    assert servers(cluster) == []


def test_a_living_user_keeps_the_server_running(cluster: Path) -> None:
    embedded = EmbeddedDatabase(cluster, settings=FAST)
    embedded.start()
    with another_process(cluster) as other:
        url = said(other)
        embedded.stop()
        assert kept(url) == 1
        other.communicate(timeout=60)
    assert servers(cluster) == []


def test_two_first_starts_at_once_make_one_cluster(directory: Path) -> None:
    with another_process(directory) as first, another_process(directory) as second:
        assert said(first) == said(second) != ""
        for process in (first, second):
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert servers(directory) == []
