"""Reading the audit log."""

from uuid import UUID

from kiti.audit.model import Recorded
from kiti.db import Reader, load

sql = load("kiti.audit")


async def of_subject(reader: Reader, *, subject: UUID) -> list[Recorded]:
    """The newest-last first 500 events of a booking or another subject."""
    return await reader.many(sql.of_subject, Recorded, subject=subject)
