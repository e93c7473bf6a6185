"""A PostgreSQL of its own for tests that kill it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from kiti.db.embedded import CONFIGURATION, EmbeddedDatabase
from kiti.db.migrate import migrate


class Cluster:
    """Keeps what it has committed when its processes are killed. `url` is that of a migrated, empty database."""

    def __init__(self, embedded: EmbeddedDatabase, url: str) -> None:
        self.embedded = embedded
        self.url = url

    def kill9(self) -> None:
        """SIGKILL for the postmaster; its children notice by themselves."""
        pid = int((self.embedded.directory / "postmaster.pid").read_text().partition("\n")[0])
        postmaster = psutil.Process(pid)
        postmaster.kill()
        postmaster.wait(10)

    def revive(self) -> bool:
        """Start it again at the same URL; whether it was dead."""
        return self.embedded.revive()


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Made, started and migrated; removed afterwards, dead or alive."""
    home = Path(tempfile.mkdtemp(prefix="kiti-crash-"))
    # Only processes die here, so what the kernel has been given is safe.
    embedded = EmbeddedDatabase(home / "pg", settings=CONFIGURATION + "fsync = off\n")
    try:
        url = embedded.start()
        migrate(url)
        yield Cluster(embedded, url)
        embedded.revive()
    finally:
        embedded.stop()
        shutil.rmtree(home)
