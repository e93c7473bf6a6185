"""What happens later: a late payment, a refund paid out, a transfer done, a chargeback lapsed.

Timers are rows, so they fire after a restart too. A timer's change and its removal are one
transaction.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from kiti.simulator.machine import Machine, wait_for_bell

BATCH: Final = 500

Action = Callable[[Machine, int, dict[str, Any]], None]


def set_timer(machine: Machine, *, kind: str, subject: int, delay_seconds: float, **data: Any) -> None:
    """Have the action named `kind` happen to `subject` after the delay."""
    machine.store.run(
        "INSERT INTO timer (at, kind, subject, data) VALUES (?, ?, ?, ?)",
        *(time.time() + delay_seconds, kind, subject, json.dumps(data)),
    )
    machine.timer_bell.set()


async def run_timers(machine: Machine, *, actions: Mapping[str, Action]) -> None:
    """Fire what is due until cancelled."""
    while True:
        due = machine.store.all(
            "SELECT id, kind, subject, data FROM timer WHERE at <= ? ORDER BY at, id LIMIT ?",
            *(time.time(), BATCH),
        )
        for row in due:
            with machine.store.atomic():
                actions[row["kind"]](machine, row["subject"], json.loads(row["data"]))
                machine.store.run("DELETE FROM timer WHERE id = ?", row["id"])
        if len(due) < BATCH:
            next_at = machine.store.value("SELECT min(at) FROM timer")
            await wait_for_bell(machine.timer_bell, until=next_at)
