"""Where state machines act: what Hypothesis calls is not async, and what it drives is.

A machine is a subclass of `OnStage[World]` whose rules call `self.run(...)`; `play` plays it on a world.
"""

import asyncio
from collections.abc import Awaitable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from typing import Generic, TypeVar
from uuid import UUID

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from kiti.core.ids import new_id
from kiti.db import Database

T = TypeVar("T")

COPY_TRIP = (
    """INSERT INTO schedule
    SELECT %(schedule)s, operator_id, route_id, vehicle_id, departs_local, weekdays, valid_from, valid_until
    FROM schedule WHERE id = (SELECT schedule_id FROM trip WHERE id = %(pattern)s)""",
    """INSERT INTO trip
    SELECT %(trip)s, %(schedule)s, service_date + %(days)s, operator_id, route_id, vehicle_id, layout_id, state,
        departs_at + %(days)s * interval '1 day', arrives_at + %(days)s * interval '1 day'
    FROM trip WHERE id = %(pattern)s""",
    """INSERT INTO trip_stop
    SELECT %(trip)s, seq, route_id, stop_id, arrives_at + %(days)s * interval '1 day',
        departs_at + %(days)s * interval '1 day', local_date + %(days)s
    FROM trip_stop WHERE trip_id = %(pattern)s""",
)


class Stage:
    """A loop that outlives examples, and what was opened in it; `close` ends both."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()

    def run(self, work: Awaitable[T]) -> T:
        """Let it come to its end."""

        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Open something that is closed with the stage."""
        return self.run(self.stack.enter_async_context(context))

    def close(self) -> None:
        """Close what was opened, the last first."""
        self.run(self.stack.aclose())
        self.runner.close()


S = TypeVar("S", bound=Stage)


class OnStage(RuleBasedStateMachine, Generic[S]):
    """A state machine whose rules are played on a stage that is the same for all examples."""

    stage: S

    def run(self, work: Awaitable[T]) -> T:
        """Let it come to its end, on the stage."""
        return self.stage.run(work)


def play(
    machine: type[OnStage[S]],
    *,
    on: S,
    examples: int,
    steps: int,
    deadline_seconds: float = 120,
    phases: Collection[Phase] = tuple(Phase),
) -> None:
    """Let Hypothesis play the machine; a step that takes longer than its deadline is a failure."""
    here = type(machine.__name__, (machine,), {"stage": on})
    run_state_machine_as_test(
        here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=timedelta(seconds=deadline_seconds),
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def copy_trip(db: Database, pattern: UUID, *, days_later: int = 0) -> UUID:
    """A trip like the pattern, some days after it, that nobody has ever booked."""
    trip, schedule = new_id(), new_id()
    told = {"trip": trip, "schedule": schedule, "pattern": pattern, "days": days_later}
    async with db.pool.connection() as connection, connection.transaction():
        for statement in COPY_TRIP:
            await connection.execute(statement, told)
    return trip
