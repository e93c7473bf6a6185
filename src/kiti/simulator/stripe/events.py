"""Events: written down with the change that they tell of, and handed to the courier."""

import json
from typing import Final

from kiti.simulator import webhooks
from kiti.simulator.machine import Machine
from kiti.simulator.stripe.objects import Doc, make, told

API_VERSION: Final = "2026-10-28.endive"


def announce(machine: Machine, kind: str, doc: Doc, *, reference: str) -> None:
    """Have an event posted. What it carries is the object as it is at this moment."""
    fault = machine.faults.for_webhook(_family(kind)) or webhooks.NO_FAULT
    event = make(
        machine,
        "event",
        "evt",
        parent=doc["id"],
        reference=reference,
        type=kind,
        api_version=API_VERSION,
        data={"object": told(doc)},
        pending_webhooks=1,
        request={"id": None, "idempotency_key": None},
    )
    text = json.dumps(event, separators=(",", ":"))
    webhooks.enqueue(machine, fault=fault, gateway="stripe", kind=_family(kind), text=text)


def _family(kind: str) -> str:
    """The word by which a fault is meant for it."""
    if kind.startswith("charge.dispute"):
        return "dispute"
    if kind.startswith(("refund.", "charge.refund")):
        return "refund"
    return "transfer" if kind.startswith(("transfer.", "payout.")) else "charge"
