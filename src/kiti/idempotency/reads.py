"""Reading idempotency keys."""

from kiti.db import Reader, load
from kiti.idempotency.model import KEEP_HOURS, Key, Stored

sql = load("kiti.idempotency")


async def find(reader: Reader, *, key: Key) -> Stored | None:
    """What was answered to a request with this key, None if there was none within KEEP_HOURS."""
    return await reader.maybe(sql.find, Stored, key=key.digest, keep_hours=KEEP_HOURS)
