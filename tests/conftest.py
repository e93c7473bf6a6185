"""The test bench: a real PostgreSQL, a fresh database for each test, a clock that can be moved.

Without DATABASE_URL the embedded PostgreSQL runs, one cluster for all xdist workers; with it, that server.
Databases are copied from a migrated template, so a fresh one costs some tens of milliseconds.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from kiti.db import Database
from kiti.db.embedded import CONFIGURATION, EmbeddedDatabase
from kiti.db.migrate import migrate, newest
from tests.box import Box
from tests.examples import examples
from tests.house import RunningHouse

# How long drawing takes says how busy the machine is, and nothing about what is tested.
settings.register_profile(
    "kiti", max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow], deadline=None
)
settings.load_profile("kiti")

HERE = Path(__file__).parent
# What takes ten seconds and more, the longest first.
LONG = (
    "integration/test_four_process_storm.py",
    "property",
    "integration/test_cancelled_trips.py",
    "integration/test_crash_points.py",
    "integration/test_hundreds_cancelled.py",
    "integration/test_waiting_room.py",
    "integration/test_job_progress.py",
)
# A crash of the test machine may lose the test data; a crash of PostgreSQL alone does not.
FAST = CONFIGURATION + "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_wal_size = 256MB\n"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 * 1024**3
LIVED_IN = "lived-in"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--of-database",
        action="store_true",
        help="only tests that ask the PostgreSQL of DATABASE_URL anything: what another version of it may change",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for, and let the longest begin: a worker that gets one last works on alone.

    `--dist worksteal` gives each worker one piece of the list, so the longest stand at the beginnings of all pieces.
    """
    if config.getoption("of_database"):
        others = [item for item in items if not _asks_the_server(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _asks_the_server(item)]
    items[:] = _spread(items, workers=int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server that may make and drop databases."""
    given = os.environ.get("DATABASE_URL", "")
    if given:
        yield given
        return
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    # A Unix socket's path must be short, and root's own directories are closed to the server's user.
    with ExitStack() as stack:
        with _exclusive(shared / "cluster.lock"):
            home = _home_of(shared)
            stack.enter_context(_lived_in(home))
            _forget_killed_runs(home)
            embedded = EmbeddedDatabase(home / "pg", settings=FAST)
            url = embedded.start("postgres")
        yield url
        with _exclusive(shared / "cluster.lock"):
            embedded.stop()
            if not (embedded.directory / "postmaster.pid").exists():  # nobody else uses it any more
                shutil.rmtree(home)


@pytest.fixture(scope="session")
def template(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a migrated, otherwise empty database, made once per server."""
    name = f"kiti_template_{newest()}_{_schema_digest()}"
    with _exclusive(tmp_path_factory.getbasetemp().parent / "template.lock"):
        with psycopg.connect(server_url, autocommit=True) as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if there is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name + "_new")))
        if there is None:
            migrate(database_url(server_url, name + "_new"))
            with psycopg.connect(server_url, autocommit=True) as connection:
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
                        sql.Identifier(name + "_new"), sql.Identifier(name)
                    )
                )
    return name


@pytest.fixture
def fresh_url(server_url: str, template: str) -> Iterator[str]:
    """The URL of a fresh, migrated database; dropped afterwards."""
    with fresh_database(server_url, template) as url:
        yield url


@pytest.fixture
async def box(fresh_url: str) -> AsyncIterator[Box]:
    """A fresh database with the verbs that tests speak."""
    database = Database(fresh_url, minimum=1, maximum=12)
    await database.open()
    yield Box(database)
    await database.close()


@pytest.fixture(scope="session")
async def house(
    server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningHouse]:
    """Simulator and server as processes, with tests/network.py to sell; one for all tests of a worker.

    Take a fresh trip for each test. Who stops or kills something takes `own_house`.
    """
    with fresh_database(server_url, template) as url:
        running = RunningHouse(url, tmp_path_factory.mktemp("house"))
        try:
            yield await running.start()
        finally:
            await running.stop()


@pytest.fixture
async def own_house(fresh_url: str, tmp_path: Path) -> AsyncIterator[RunningHouse]:
    """The same for one test alone, which may do with it what it likes."""
    running = RunningHouse(fresh_url, tmp_path / "house")
    try:
        yield await running.start()
    finally:
        await running.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, object, None]:
    """A failed test shows what the processes around it have said."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined] # pluggy's Result
    if report.failed:
        report.sections.extend(("what the house said", running.words()) for running in RunningHouse.running)


def _spread(items: list[pytest.Item], *, workers: int) -> list[pytest.Item]:
    """Pieces of equal size, each with its share of what is long in front; otherwise in the order in which it was."""
    long = sorted((item for item in items if _rank(item) < len(LONG)), key=_rank)
    others = iter([item for item in items if _rank(item) == len(LONG)])
    spread: list[pytest.Item] = []
    for worker in range(workers):
        size = (len(items) - len(spread)) // (workers - worker)
        share = long[worker::workers]
        spread += [*share, *islice(others, max(size - len(share), 0))]
    return [*spread, *others]


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, name in enumerate(LONG) if item.path.is_relative_to(HERE / name)), len(LONG))


def _asks_the_server(item: pytest.Item) -> bool:
    """Whether a test needs, however indirectly, the fixture that knows the server."""
    return not {"server_url", "books_url"}.isdisjoint(getattr(item, "fixturenames", ()))


def database_url(server: str, name: str) -> str:
    parts = urlsplit(server)
    return urlunsplit(parts._replace(path=f"/{name}", netloc=parts.netloc or "@")).replace("@@", "@")


@contextmanager
def fresh_database(server_url: str, template: str) -> Iterator[str]:
    name = f"kiti_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(
            # In memory a tenth of the work of writing it all through the log.
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    yield database_url(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _home_of(shared: Path) -> Path:
    """Where the run that shares this folder has its cluster: the first worker to ask decides."""
    decided = shared / "cluster.home"
    if not decided.exists():
        run = hashlib.sha256(str(shared).encode()).hexdigest()[:8]
        decided.write_text(str(_quick_place() / f"kiti-test-{os.getuid()}-{run}"))
    return Path(decided.read_text())


def _quick_place() -> Path:
    """Memory, where there is enough: a database is three hundred little files, made and dropped for each test."""
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        return MEMORY
    return Path(tempfile.gettempdir())


@contextmanager
def _lived_in(home: Path) -> Iterator[None]:
    """Held, shared, by each worker of a run; the kernel lets go of it when a worker ends, however it ends."""
    home.mkdir(exist_ok=True)
    with (home / LIVED_IN).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _forget_killed_runs(home: Path) -> None:
    """A run that was killed could not remove its cluster. A server that finds its directory gone ends by itself."""
    for other in home.parent.glob(f"kiti-test-{os.getuid()}-*"):
        if other == home:
            continue
        with suppress(FileNotFoundError, BlockingIOError), (other / LIVED_IN).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(other, ignore_errors=True)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _schema_digest() -> str:
    """A changed migration file makes a new template on a server that keeps its databases between runs."""
    from importlib import resources

    versions = resources.files("kiti.db").joinpath("migrations/versions")
    digest = hashlib.sha256()
    for file in sorted(versions.iterdir(), key=lambda f: f.name):
        if file.name.endswith((".sql", ".py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:10]
