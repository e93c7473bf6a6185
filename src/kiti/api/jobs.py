"""Jobs, for a scheduler that knows JOB_SECRET_KEY. The worker runs them on its own timetable as well."""

import time
from typing import Any

from litestar import Controller, Request, get, post

from kiti.api import wire
from kiti.api.access import check_scheduler
from kiti.core.errors import NotFound
from kiti.db import queue
from kiti.flows.house import House
from kiti.flows.upkeep import EVENT_TASKS, JOBS


class Jobs(Controller):
    """`/api/jobs`."""

    path = "/api/jobs"
    tags = ("Jobs",)

    @get(summary="The jobs there are")
    async def jobs(self, house: House, request: Request[Any, Any, Any]) -> wire.JobsShape:
        """Each with a sentence."""
        check_scheduler(request, house.settings)
        return wire.JobsShape(
            jobs=[wire.JobShape(job=name, description=(run.__doc__ or "").strip()) for name, run in JOBS.items()]
        )

    @get("/health", summary="How the queue stands")
    async def health(self, house: House, request: Request[Any, Any, Any]) -> wire.JobsHealthShape:
        """Last run, lag and backlog of each task; `failed` ones are parked and wait for a person."""
        check_scheduler(request, house.settings)
        async with house.db.reader() as reader:
            rows = await queue.health(reader, tasks=[*JOBS, *EVENT_TASKS])
        return wire.JobsHealthShape(
            jobs=[
                wire.JobHealthShape(
                    job=row.task,
                    waiting=row.waiting,
                    failed=row.failed,
                    lag_seconds=row.lag_seconds,
                    last_run_at=row.last_run_at,
                )
                for row in rows
            ]
        )

    @post("/{job:str}", summary="Run one now", status_code=200)
    async def run(self, house: House, request: Request[Any, Any, Any], job: str) -> wire.JobRunShape:
        """Bounded; running one twice at once does no harm."""
        check_scheduler(request, house.settings)
        if job not in JOBS:
            raise NotFound(f"There is no job {job!r}. There is {', '.join(JOBS)}.")
        started = time.perf_counter()
        tally = await JOBS[job](house)
        return wire.JobRunShape(
            job=job,
            processed=tally.processed,
            failed=tally.failed,
            duration_ms=round((time.perf_counter() - started) * 1000),
        )
