"""The job queue: procrastinate over the same PostgreSQL, so that a job is deferred by the transaction that needs it.

Names only: what a job does stands in `kiti.jobs`, above. A job that keeps failing ends with the status `failed`
in `procrastinate_jobs`, where `kiti doctor` counts it and `kiti jobs retry` sets it going again.
"""

from typing import Any

import procrastinate
from procrastinate import PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued

from kiti.db.pool import Database, Transaction


def create_app(database: Database) -> procrastinate.App:
    """A queue with a small pool of its own, so that jobs never starve requests of connections."""
    connector = PsycopgConnector(conninfo=database.url, min_size=1, max_size=4)
    return procrastinate.App(connector=connector)


class Queue:
    """Defers jobs by name. `lock` lets one job of that lock run at a time; a job already waiting is not added twice."""

    def __init__(self, app: procrastinate.App) -> None:
        self.app = app

    async def defer(self, tx: Transaction, task: str, *, lock: str, **arguments: Any) -> None:
        """Add a job that exists exactly if `tx` commits."""
        await self.app.configure_task(task, lock=lock, connection=tx.connection).defer_async(**arguments)

    async def defer_now(self, task: str, **arguments: Any) -> bool:
        """Add a job outside any transaction; False where the same one waits already."""
        try:
            await self.app.configure_task(task, queueing_lock=task).defer_async(**arguments)
        except AlreadyEnqueued:
            return False
        return True
