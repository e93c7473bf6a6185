"""`python -m tests.crash_worker`: has loaded Kiti, and for each order forks a process that may be killed.

A fork costs a fiftieth of what starting an interpreter does. Each thing that is said is a line of JSON: an order
comes in; `ready` with the process's number goes out once its house is open; any line lets it begin; `done` with the
case as it then is goes out, unless it was killed; `ended` with the exit code ends it.
"""

import asyncio
import gc
import os
import sys
import traceback
from typing import IO, Any

import msgspec

from kiti.app import gateways_of, open_house
from kiti.core.settings import Settings, load
from kiti.db import Database
from tests.crash_acts import ACTS, Case, silence_timetable


class Order(msgspec.Struct):
    """What to do, and with what."""

    act: str
    case: Case


class Said(msgspec.Struct, omit_defaults=True):
    """A line from here."""

    ready: int = 0
    done: Case | None = None
    ended: int | None = None


async def carry_out(settings: Settings, order: Order, said: IO[bytes]) -> None:
    async with open_house(settings) as house:
        silence_timetable(house)
        _say(said, Said(ready=os.getpid()))
        sys.stdin.buffer.readline()
        await ACTS[order.act](house, order.case)
        _say(said, Said(done=order.case))
        os._exit(0)  # how a house is closed is none of the story's points


def main() -> None:
    settings = load()
    # What Kiti prints must not come between the lines.
    said = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _warm_up(settings)
    while line := sys.stdin.buffer.readline():
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            _live(settings, order, said)
        _, status = os.waitpid(pid, 0)
        _say(said, Said(ended=os.waitstatus_to_exitcode(status)))


def _warm_up(settings: Settings) -> None:
    """What every fork would do anew: load what is loaded when first used, read certificates that nobody here needs."""
    gateways_of(settings, Database(settings.database_url))
    gc.freeze()


def _live(settings: Settings, order: Order, said: IO[bytes]) -> None:
    """The whole life of a fork; it never returns to its parent's."""
    try:
        asyncio.run(carry_out(settings, order, said))
    except BaseException:  # noqa: BLE001 - it is told below, by the exit code and in the log
        traceback.print_exc()
    os._exit(1)


def _say(said: IO[bytes], what: Any) -> None:
    said.write(msgspec.json.encode(what) + b"\n")


if __name__ == "__main__":
    main()
