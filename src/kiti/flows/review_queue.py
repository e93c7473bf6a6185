"""What waits for a person, as staff filter it: payments in review, refunds that did not go, money for nothing known.

An operator's staff see the cases of bookings with their seats. Money for nothing that is known is the platform's alone:
whose it is nobody knows.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import msgspec

from kiti.core.errors import InvalidInput
from kiti.db import Reader
from kiti.flows.house import House
from kiti.flows.staff import require
from kiti.payments import reads as payment_reads
from kiti.payments.model import OpenBreak
from kiti.payments.reads import RefundLine, ReviewKind, ReviewLine
from kiti.people.model import Staff

# What a case is about: why a payment is in review, or that it is a refund, or money under a reference of nobody.
Reason = Literal["too_little", "other_currency", "not_told", "refund", "unclaimed"]
AGES_SECONDS: Mapping[str, int] = {"1h": 3600, "1d": 86_400, "3d": 3 * 86_400, "7d": 7 * 86_400}

QUEUE_LINES = 200
LONGEST_CODE = 32


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which cases: about one thing, of one operator (its code), of one gateway, waiting for so long; "" is any."""

    reason: Reason | Literal[""] = ""
    operator: str = ""
    gateway: str = ""
    age: str = ""

    @property
    def older_seconds(self) -> int:
        """How long a case has waited at least."""
        return AGES_SECONDS.get(self.age, 0)


EVERYTHING = Filter()


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a person, of each kind the longest waiting first."""

    reviews: Sequence[ReviewLine] = ()
    refunds: Sequence[RefundLine] = ()
    unclaimed: Sequence[OpenBreak] = ()

    @property
    def longest(self) -> int:
        """How many cases there are of the kind of which there are most."""
        return max(len(self.reviews), len(self.refunds), len(self.unclaimed))


def filter_of(house: House, *, staff: Staff, reason: str, operator: str, gateway: str, age: str) -> Filter:
    """A filter as it was typed; raises InvalidInput. Staff of an operator filter by no other."""
    if reason not in {"", *get_args(Reason)}:
        raise InvalidInput("reason", "There is no such reason.")
    if gateway not in {"", *house.gateways}:
        raise InvalidInput("gateway", "There is no such gateway.")
    if age not in {"", *AGES_SECONDS}:
        raise InvalidInput("age", "Choose how long it has waited.")
    if len(operator) > LONGEST_CODE:
        raise InvalidInput("operator", "An operator's code is shorter.")
    code = operator if staff.bound is None else ""
    return Filter(reason=reason, operator=code, gateway=gateway, age=age)  # type: ignore[arg-type] # looked up above


async def queue(house: House, *, staff: Staff, wanted: Filter = EVERYTHING, limit: int = QUEUE_LINES) -> Queue:
    """Up to `limit` cases of each kind that the filter lets through. Raises NotAllowed."""
    require(staff, "payments.see")
    require(staff, "refunds.see")
    async with house.db.reader() as reader:
        return Queue(
            reviews=await _reviews(reader, staff, wanted, limit),
            refunds=await _refunds(reader, staff, wanted, limit),
            unclaimed=await _unclaimed(reader, staff, wanted, limit),
        )


async def _reviews(reader: Reader, staff: Staff, wanted: Filter, limit: int) -> Sequence[ReviewLine]:
    kinds = [kind for kind in get_args(ReviewKind) if wanted.reason in {"", kind}]
    if not kinds:
        return ()
    return await payment_reads.office_reviews(
        reader,
        operator=staff.bound,
        code=wanted.operator,
        gateway=wanted.gateway,
        kinds=kinds,
        older_seconds=wanted.older_seconds,
        limit=limit,
    )


async def _refunds(reader: Reader, staff: Staff, wanted: Filter, limit: int) -> Sequence[RefundLine]:
    if wanted.reason not in {"", "refund"}:
        return ()
    return await payment_reads.office_refunds(
        reader,
        operator=staff.bound,
        code=wanted.operator,
        gateway=wanted.gateway,
        older_seconds=wanted.older_seconds,
        limit=limit,
    )


async def _unclaimed(reader: Reader, staff: Staff, wanted: Filter, limit: int) -> Sequence[OpenBreak]:
    if staff.bound is not None or wanted.operator or wanted.reason not in {"", "unclaimed"}:
        return ()
    return await payment_reads.unclaimed(
        reader, gateway=wanted.gateway, older_seconds=wanted.older_seconds, limit=limit
    )
