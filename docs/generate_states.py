"""Draws docs/states.md from the transition tables of the slices: `make states`. A test fails when they differ."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kiti.bookings.model import TRANSITIONS as BOOKING
from kiti.disputes.model import TRANSITIONS as DISPUTE
from kiti.hooks.model import TRANSITIONS as HOOK
from kiti.messages.model import TRANSITIONS as MESSAGE
from kiti.network.model import TRANSITIONS as TRIP
from kiti.payments.model import PAYMENT_TRANSITIONS, REFUND_TRANSITIONS
from kiti.settlements.model import PAYOUT_TRANSITIONS
from kiti.settlements.model import TRANSITIONS as SETTLEMENT
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
        begins="created",
        intro=(
            "One attempt to pay; of one booking one is open at a time (`created`, `submitting`, `unknown`, `pending`,"
            " `requires_action`, `authorised`). What the gateway took is a row of `charge`, whatever the state of the"
            " attempt."
        ),
        meanings={
            "created": "Written down; nobody was asked yet, and after some seconds nobody will be.",
            "submitting": "The gateway is being asked for a page, or to ask a phone.",
            "unknown": "The gateway's answer was lost; it is looked up, never asked again.",
            "pending": "The page is open, or the traveller's bank has not decided.",
            "requires_action": "The traveller is before a question of their bank's.",
            "authorised": "The bank keeps the money ready; the seats are kept while it is being captured.",
            "captured": "The gateway has the money.",
            "failed": "Declined, or the gateway never got the request.",
            "expired": "Nobody paid while the page was open, or nobody was ever asked.",
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
        title="Dispute",
        source="kiti.disputes.model.TRANSITIONS",
        begins="open",
        intro=(
            "A traveller's bank wants money back. While it is open the amount is reserved on the charge, so that no"
            " refund takes it too. An answer is given once; the gateway decides how it ends."
        ),
        meanings={
            "open": "The gateway holds the amount back; the tickets stay good.",
            "won": "The gateway gives it back: it is ours again, to keep or to refund.",
            "lost": "The traveller has it. If nothing of the payment is left before the journey, the tickets are void.",
            "accepted": "We have given in; the same follows.",
        },
        transitions=DISPUTE,
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
            "parked": "Hopeless, out of date, tried too often, or twice in doubt. A person may send it again.",
        },
        transitions=MESSAGE,
    ),
    Machine(
        title="Settlement",
        source="kiti.settlements.model.TRANSITIONS",
        begins="draft",
        intro="What an operator earned in a period in one currency. Its lines never change once it is made.",
        meanings={
            "draft": "Made by the system; a person has to look at it.",
            "approved": "Somebody has approved the amount and where it goes; somebody else has it paid.",
            "paying": "A payout is on its way.",
            "paid": "The gateway says that the money has arrived.",
            "failed": "The money did not go, or came back: the operator is owed it, and it may be paid again.",
            "reconciled": "A day later the gateway still said so.",
            "carried": "Nothing to be paid, or too little: it is part of the next one.",
        },
        transitions=SETTLEMENT,
    ),
    Machine(
        title="Payout",
        source="kiti.settlements.model.PAYOUT_TRANSITIONS",
        begins="requested",
        intro="Money on its way to an operator. A statement has one that has not failed, at most.",
        meanings={
            "requested": "Written down and posted; a job will carry it out.",
            "submitting": "The gateway is being asked.",
            "unknown": "The answer was lost: the gateway's payouts are searched before anybody asks again.",
            "pending": "The gateway has accepted it and is sending it.",
            "succeeded": "It has arrived.",
            "reconciled": "A day later the gateway still said so.",
            "failed": "The gateway could not or would not, or the operator's bank sent it back.",
            "needs_attention": "It cannot go on by itself: a person must look.",
        },
        transitions=PAYOUT_TRANSITIONS,
    ),
    Machine(
        title="Webhook delivery",
        source="kiti.hooks.model.TRANSITIONS",
        begins="pending",
        intro="One event told to one endpoint; a replay is another delivery of the same event.",
        meanings={
            "pending": "To be sent when its time has come.",
            "sending": "Somebody has taken it; if they die, it is pending again after a minute.",
            "delivered": "It was answered with a 2xx.",
            "failed": "Ten attempts in three days, or 410 Gone.",
        },
        transitions=HOOK,
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
