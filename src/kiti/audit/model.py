"""One line of the audit log."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """`actor` did `action` to `subject`; `detail` is JSON with what a person would ask next."""

    subject: UUID
    actor: str
    action: str
    detail: dict[str, Any] = {}


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it stands in the log."""

    id: UUID
    at: datetime
    actor: str
    action: str
    detail: dict[str, Any]
