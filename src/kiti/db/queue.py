"""The job queue: procrastinate over the same PostgreSQL, so that a job is deferred by the transaction that needs it.

Names only: what a job does stands in `kiti.jobs`, above. A job that keeps failing ends with the status `failed`
in `procrastinate_jobs`: `kiti doctor` and `GET /api/jobs/health` show it, `kiti jobs retry` sets it going again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import procrastinate
from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException

from kiti.core.errors import NotFound
from kiti.db.pool import Database, Reader, Transaction
from kiti.db.queries import load

sql = load("kiti.db")


class TaskHealth(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the queue: how many jobs wait, how many are parked, how late the latest one is."""

    task: str
    waiting: int
    failed: int
    lag_seconds: int
    last_run_at: datetime | None


class ParkedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that failed too often and waits for a person."""

    id: int
    task: str
    attempts: int


class Queue:
    """Defers jobs by name, and runs them once `kiti.jobs` has registered what they do."""

    def __init__(self, database: Database) -> None:
        # A small pool of its own, so that jobs never starve requests of connections.
        self.app = procrastinate.App(connector=PsycopgConnector(conninfo=database.url, min_size=1, max_size=4))

    async def defer(self, tx: Transaction, task: str, *, lock: str, **arguments: Any) -> None:
        """Add a job that exists exactly if `tx` commits; of one `lock` only one runs at a time."""
        assert not tx.is_pipelined, "BEGIN may not have been sent yet, and this goes past the pipeline"
        deferrer = self.app.configure_task(task, lock=lock, connection=tx.connection)
        await deferrer.defer_async(**arguments)

    async def retry_parked(self, job: int) -> None:
        """Let a parked job be tried again, now; raises NotFound."""
        try:
            await self.app.job_manager.retry_job_by_id_async(job, retry_at=datetime.now(UTC))
        except ConnectorException as error:
            raise NotFound(f"There is no parked job {job}.") from error


async def health(reader: Reader, *, tasks: Sequence[str]) -> list[TaskHealth]:
    """How each of these tasks stands."""
    return await reader.many(sql.queue_health, TaskHealth, tasks=list(tasks))


async def parked(reader: Reader) -> list[ParkedJob]:
    """Up to 100 parked jobs, oldest first."""
    return await reader.many(sql.parked_jobs, ParkedJob)
