"""Draws docs/states.md from the transition tables of the slices: `make states`. A test fails when they differ."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kiti.bookings.model import TRANSITIONS as BOOKING
from kiti.messages.model import TRANSITIONS as MESSAGE
from kiti.network.model import TRANSITIONS as TRIP
from kiti.payments.model import PAYMENT_TRANSITIONS, REFUND_TRANSITIONS
from kiti.tickets.model import TRANSITIONS as TICKET


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of thing that has states: where it begins, what each state means, what may follow."""

    title: str
    source: str
    begins: str
    intro: str
    meanings: dict[str, str]
    transitions: Mapping[Any, Iterable[str]]


MACHINES = (
    Machine(
        title="Booking",
        source="kiti.bookings.model.TRANSITIONS",
        begins="held",
        intro=(
            "Who has a seat is decided by its claim alone; these states say how far the purchase has come. A hold"
            " whose time is over counts as `expired` everywhere, also before the sweeper has written it down."
        ),
        meanings={
            "held": "The seats are claimed for some minutes.",
            "awaiting_payment": "An attempt to pay is open; it has extended the hold, up to its cap.",
            "confirmed": "Paid: the claims have no end, the tickets are issued.",
            "completed": "The last trip has arrived.",
            "expired": "The hold is over. A payment that comes late still gets the seats if they are free.",
            "cancelled": "Given up by the traveller. Money that still comes goes back.",
        },
        transitions=BOOKING,
    ),
    Machine(
        title="Payment",
        source="kiti.payments.model.PAYMENT_TRANSITIONS",
        begins="submitting",
        intro=(
            "One attempt to pay; of one booking one is open at a time (`submitting`, `unknown`, `pending`,"
            " `requires_action`, `authorised`). What the gateway took is a row of `charge`, whatever the attempt's"
            " state."
        ),
        meanings={
            "submitting": "Written down; the gateway is being asked for a page.",
            "unknown": "The gateway's answer was lost; it is looked up, never asked again.",
            "pending": "The page is open, or the traveller's bank has not decided.",
            "requires_action": "The traveller is before a question of their bank's.",
            "authorised": "The bank keeps the money ready; the seats are kept while it is being captured.",
            "captured": "The gateway has the money.",
            "failed": "Declined, or the gateway never got the request.",
            "expired": "Nobody paid while the page was open.",
            "cancelled": "The traveller gave the booking up before paying.",
            "review": "The money is not what was asked for: a person must look.",
        },
        transitions=PAYMENT_TRANSITIONS,
    ),
    Machine(
        title="Refund",
        source="kiti.payments.model.REFUND_TRANSITIONS",
        begins="requested",
        intro="Its amount is reserved on the charge before anything else, so refunds never exceed what was taken.",
        meanings={
            "requested": "Written down and posted; a job will carry it out.",
            "submitting": "The gateway is being asked.",
            "unknown": "The answer was lost: the gateway's refunds are listed before anybody asks again.",
            "pending": "The gateway has accepted it and is paying out.",
            "succeeded": "The traveller has the money.",
            "failed": "The gateway could not or would not.",
            "needs_attention": "It cannot go on by itself: a person must look.",
        },
        transitions=REFUND_TRANSITIONS,
    ),
    Machine(
        title="Ticket",
        source="kiti.tickets.model.TRANSITIONS",
        begins="valid",
        intro="One seat of one booking on one trip.",
        meanings={
            "valid": "Good for one boarding.",
            "used": "Somebody has boarded with it.",
            "void": "Cancelled, refunded or replaced.",
        },
        transitions={state.value: [after.value for after in TICKET[state]] for state in TICKET},
    ),
    Machine(
        title="Trip",
        source="kiti.network.model.TRANSITIONS",
        begins="scheduled",
        intro="Whether it has left is told by its times, not by a state.",
        meanings={"scheduled": "It runs and can be sold.", "cancelled": "It does not run; nothing of it is sold."},
        transitions=TRIP,
    ),
    Machine(
        title="Message",
        source="kiti.messages.model.TRANSITIONS",
        begins="queued",
        intro="What a traveller is told by mail or text message, of each event once.",
        meanings={
            "queued": "To be sent when its time has come.",
            "sending": "Somebody has taken it; if they die, it is queued or parked after some minutes.",
            "sent": "The mail server or the provider has it.",
            "parked": "Given up: hopeless, out of date, tried too often, or twice in doubt. It says why.",
        },
        transitions=MESSAGE,
    ),
)

HEAD = """\
# States

Drawn by `make states` from the transition tables in the code; do not edit. A change of state is a guarded
`UPDATE ... WHERE state = <the one before>`; where it touches no row, somebody else was quicker and the caller is told.
"""


def document() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_section(machine) for machine in MACHINES)])


def _section(machine: Machine) -> str:
    order = list(machine.transitions)
    assert order == list(machine.meanings), f"{machine.title}: the meanings are those of {order}, in that order"
    lines = [f"## {machine.title}", "", machine.intro, f"Source: `{machine.source}`.", ""]
    lines += ["```mermaid", "stateDiagram-v2", f"    [*] --> {machine.begins}"]
    for state in order:
        after = sorted(machine.transitions[state], key=order.index)
        lines += [f"    {state} --> {following}" for following in after] or [f"    {state} --> [*]"]
    lines += ["```", "", "| State | Means | May become |", "|---|---|---|"]
    for state in order:
        becomes = ", ".join(f"`{following}`" for following in sorted(machine.transitions[state], key=order.index))
        lines.append(f"| `{state}` | {machine.meanings[state]} | {becomes or 'nothing else'} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(__file__).with_name("states.md").write_text(document())
