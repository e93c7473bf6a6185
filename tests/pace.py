"""What work costs in seconds of a processor. How busy others keep the machine is no fault of ours, and not counted."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from kiti.db import Database
from tests.box import Box

TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 8


class Effort:
    """Of this process, and of the processes of PostgreSQL that serve a database: `ours` and `theirs` since it began."""

    def __init__(self, backends: Sequence[int]) -> None:
        self._backends = backends
        self._ours = time.process_time()
        self._theirs = self._used()

    @property
    def ours(self) -> float:
        """This process's, all threads together."""
        return time.process_time() - self._ours

    @property
    def theirs(self) -> float:
        """PostgreSQL's, 0 where it runs on another machine."""
        return self._used() - self._theirs

    @property
    def seconds(self) -> float:
        """How long it would take where we have one core for ourselves and PostgreSQL another."""
        return max(self.ours, self.theirs)

    def _used(self) -> float:
        return sum(map(_seconds_of, self._backends))


async def effort(db: Database) -> Effort:
    """One that begins now; the connections are opened before."""
    readers = [db.reader() for _ in range(CONNECTIONS)]
    for reader in readers:
        await reader.__aenter__()
    for reader in readers:
        await reader.__aexit__(None, None, None)
    rows = await Box(db).rows("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    return Effort([row["pid"] for row in rows])


def _seconds_of(process: int) -> float:
    """What a process of this machine has used of its processors, 0 for one that is not there."""
    try:
        told = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0.0
    # proc(5): behind the name in brackets, the twelfth and thirteenth field are user and system time.
    return sum(map(int, told.rpartition(")")[2].split()[11:13])) / TICKS
