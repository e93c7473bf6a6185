"""Commands for jobs."""

import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from kiti.cli.serve import database, run_async
from kiti.core.settings import Settings, load
from kiti.db import queue
from kiti.flows.progress import watched
from kiti.flows.upkeep import JOBS, Tally

console = Console(soft_wrap=True)

# How often a log is told how far a job has come; a terminal sees it all the time.
LINE_SECONDS = 1.0


@click.group()
def jobs() -> None:
    """Run jobs, see parked ones, set them going again."""


@jobs.command("run")
@click.argument("name", type=click.Choice(sorted(JOBS)))
@click.pass_obj
def run_job(composition: Any, name: str) -> None:
    """Run one job now."""
    started = time.perf_counter()
    with database(load()) as settings, console.status(f"Running {name}") as status:
        done = [0, 0]
        line_at = started + LINE_SECONDS

        def show(processed: int, failed: int) -> None:
            nonlocal line_at
            done[0] += processed
            done[1] += failed
            now = time.perf_counter()
            so_far = f"{done[0]} processed, {done[1]} failed, {sum(done) / max(now - started, 0.001):.0f} a second"
            status.update(f"Running {name}: {so_far}")
            if not console.is_terminal and now >= line_at:
                line_at = now + LINE_SECONDS
                console.print(f"{name}: {so_far} so far")

        with watched(show):
            tally = run_async(_run(composition, settings, name))
    took = round((time.perf_counter() - started) * 1000)
    console.print(f"{name}: {tally.processed} processed, {tally.failed} failed, {took} ms.")
    if tally.failed:
        raise SystemExit(1)


@jobs.command("list")
def list_jobs() -> None:
    """The jobs there are."""
    table = Table("job", "what it does", box=None)
    for name, job in JOBS.items():
        table.add_row(name, (job.__doc__ or "").strip())
    console.print(table)


@jobs.command("parked")
@click.pass_obj
def parked(composition: Any) -> None:
    """Jobs that failed too often and wait for a person."""
    with database(load()) as settings:
        found = run_async(_parked(composition, settings))
    if not found:
        console.print("No job is parked.")
        return
    table = Table("id", "task", "attempts", box=None)
    for job in found:
        table.add_row(str(job.id), job.task, str(job.attempts))
    console.print(table)


@jobs.command("retry")
@click.argument("job_id", type=int)
@click.pass_obj
def retry(composition: Any, job_id: int) -> None:
    """Set a parked job going again."""
    with database(load()) as settings:
        run_async(_retry(composition, settings, job_id))
    console.print(f"Job {job_id} waits for a worker.")


async def _run(composition: Any, settings: Settings, name: str) -> Tally:
    async with composition.open_house(settings) as house:
        return await JOBS[name](house)


async def _parked(composition: Any, settings: Settings) -> list[queue.ParkedJob]:
    async with composition.open_house(settings) as house, house.db.reader() as reader:
        return await queue.parked(reader)


async def _retry(composition: Any, settings: Settings, job_id: int) -> None:
    async with composition.open_house(settings) as house:
        await house.queue.retry_parked(job_id)


COMMANDS = (jobs,)
