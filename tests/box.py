"""What tests say to the system under test, in its own words."""

from typing import Any

from psycopg.rows import dict_row

from kiti.db import Database


class Box:
    """A fresh database. `travel` moves the clock that decides expiry; `rows` asks anything."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.travelled_seconds = 0.0

    async def travel(self, *, minutes: float = 0, seconds: float = 0) -> None:
        """Move kiti_now() on, for every connection to this database at once."""
        self.travelled_seconds += minutes * 60 + seconds
        async with self.db.pool.connection() as connection:
            await connection.execute(
                "CREATE OR REPLACE FUNCTION kiti_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
                f" AS 'SELECT statement_timestamp() + interval ''{self.travelled_seconds} seconds'''"
            )

    async def rows(self, statement: str, *params: Any) -> list[dict[str, Any]]:
        """Run any SQL; the rows, if there are any."""
        async with self.db.pool.connection() as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(statement, params)
            return await cursor.fetchall() if cursor.description else []

    async def value(self, statement: str, *params: Any) -> Any:
        """The first column of the first row."""
        rows = await self.rows(statement, *params)
        return next(iter(rows[0].values()))
