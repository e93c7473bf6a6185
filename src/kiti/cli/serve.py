"""Commands that serve, work, migrate and seed."""

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import msgspec
import structlog
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from rich.console import Console

from kiti.cli.logs import configure_logs
from kiti.core.errors import KitiError
from kiti.core.settings import Settings, load
from kiti.db import Database
from kiti.db.embedded import EmbeddedDatabase, EmbeddedDatabaseFailed
from kiti.db.migrate import migrate as run_migrations
from kiti.db.migrate import newest
from kiti.flows.seed_demo import seed_demo, seed_staff
from kiti.flows.wellbeing import schema_revision

T = TypeVar("T")

console = Console(soft_wrap=True)
BACKLOG = 2048
DRAIN_SECONDS = 0.3
COLLECT_AFTER_OBJECTS = 20_000
WATCH_SECONDS = 1.0

log = structlog.get_logger(__name__)


class PortTaken(KitiError):
    """Another program listens there already."""


class MigrationsMissing(KitiError):
    """The database is not at the schema that this program expects."""


@contextmanager
def database(settings: Settings) -> Iterator[Settings]:
    """Settings with a DATABASE_URL that works: the given one, or that of an embedded PostgreSQL started here.

    The embedded one is migrated on the way; it is nobody else's. Raises MigrationsMissing for the given one.
    """
    if settings.database_url:
        run_async(_check_migrated(settings))
        yield settings
        return
    embedded = EmbeddedDatabase(settings.data_dir / "postgres")
    url = embedded.start()
    stopping = threading.Event()
    watch = threading.Thread(target=_keep_running, args=(embedded, stopping), daemon=True)
    watch.start()
    try:
        run_migrations(url)
        yield msgspec.structs.replace(settings, database_url=url)
    finally:
        stopping.set()
        watch.join()
        embedded.stop()


def _keep_running(embedded: EmbeddedDatabase, stopping: threading.Event) -> None:
    """Start PostgreSQL again should it die under us; requests meanwhile hear 503."""
    while not stopping.wait(WATCH_SECONDS):
        try:
            if embedded.revive():
                log.warning("PostgreSQL had died and was started again")
        except EmbeddedDatabaseFailed:
            log.exception("PostgreSQL has died and does not start again; trying on")


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@click.command()
@click.option("--worker/--no-worker", default=True, help="Also run jobs in this process.")
@click.option("--host", default=None, help="Instead of KITI_HOST.")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="Instead of KITI_PORT.")
@click.pass_obj
def serve(composition: Any, worker: bool, host: str | None, port: int | None) -> None:  # noqa: FBT001 - click's way
    """Serve the web site and the API."""
    settings = load()
    settings = msgspec.structs.replace(settings, host=host or settings.host, port=port or settings.port)
    settings.check_secrets()
    configure_logs(settings.log_format)
    check_port_free(settings.host, settings.port)
    with database(settings) as ready:
        run_async(_serve(composition, ready, with_worker=worker))


@click.command()
@click.pass_obj
def worker(composition: Any) -> None:
    """Run jobs, and nothing else."""
    settings = load()
    settings.check_secrets()
    configure_logs(settings.log_format)
    with database(settings) as ready:
        run_async(_work(composition, ready))


@click.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    settings = load()
    if not settings.database_url:
        with database(settings):
            console.print(f"The embedded database is at {newest()}.")
        return
    run_migrations(settings.database_url)
    console.print(f"The database is at {newest()}.")


@click.command("seed-demo")
@click.option(
    "--days", type=click.IntRange(1, 120), default=30, show_default=True, help="Departures for how many days."
)
def seed(days: int) -> None:
    """Make the demo network, or what is missing of it."""
    with database(load()) as ready, console.status("Making the demo network"):
        seeded = run_async(_seed(ready, days))
    console.print(f"Demo network ready: {seeded}.")


async def _seed(settings: Settings, days: int) -> str:
    db = Database(settings.database_url)
    await db.open()
    try:
        seeded = await seed_demo(db, days=days)
        if settings.demo:
            await seed_staff(db)
    finally:
        await db.close()
    counts: dict[str, int] = msgspec.structs.asdict(seeded)
    return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())


async def _check_migrated(settings: Settings) -> None:
    db = Database(settings.database_url, minimum=1, maximum=1)
    await db.open()
    try:
        async with db.reader() as reader:
            at = await schema_revision(reader)
    finally:
        await db.close()
    if at != newest():
        raise MigrationsMissing(f"The database is at {at}, this program expects {newest()}. Run `kiti migrate`.")


async def _serve(composition: Any, settings: Settings, *, with_worker: bool) -> None:
    server = Server(
        composition.create_asgi(settings, with_worker=with_worker),
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=15_000, keep_alive=True),
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
    )
    stop_on_signals(server.stop)
    calm_collector()
    console.print(f"Kiti serves {settings.base_url} (listening on {settings.host}:{settings.port}).")
    await server.serve()
    # Its threads still hand over their last answers; an interpreter that ends under them aborts.
    await asyncio.sleep(DRAIN_SECONDS)


def calm_collector() -> None:
    """Let the garbage collector leave alone what was loaded at the start, and look less often at the rest.

    A request makes thousands of objects and hardly a cycle; with Python's settings a third of a reservation's time
    went into looking for them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER_OBJECTS, 20, 50)


async def _work(composition: Any, settings: Settings) -> None:
    stopping = asyncio.Event()
    stop_on_signals(stopping.set)
    async with composition.open_house(settings) as house:
        console.print("Kiti works on jobs.")
        working = asyncio.create_task(composition.work(house))
        await stopping.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def stop_on_signals(stop: Any) -> None:
    """Call `stop` on Ctrl-C and on SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def check_port_free(host: str, port: int) -> None:
    """Raise PortTaken where another program listens; better one line now than a stack trace later."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTaken(
                f"Cannot listen on {host}:{port} ({error.strerror}). Stop the other program or set KITI_PORT."
            ) from error


COMMANDS = (serve, worker, migrate, seed)
