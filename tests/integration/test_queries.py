"""Every named query fits the migrated schema: PostgreSQL parses it, resolves its names and types its parameters."""

import re
from pathlib import Path

import pytest
from tests.box import Box

import kiti
from kiti.db import Query, load

ROOT = Path(kiti.__file__).parent
PACKAGES = sorted("kiti." + file.parent.name for file in ROOT.glob("*/queries.sql"))
PARAMETER = re.compile(r"%\((\w+)\)s|%%")


@pytest.mark.parametrize("package", PACKAGES)
async def test_every_query_can_be_prepared(box: Box, package: str) -> None:
    async with box.db.pool.connection() as connection:
        for query in load(package):
            # Not through psycopg's parameters: PostgreSQL itself has to find a type for each.
            await connection.execute(f"PREPARE checked AS {query.numbered}".encode())
            await connection.execute("DEALLOCATE checked")


async def test_a_name_that_the_schema_lacks_would_be_noticed(box: Box) -> None:
    wrong = Query(
        name="wrong",
        kind="many",
        text="SELECT colour FROM booking WHERE id = %(id)s",
        numbered="SELECT colour FROM booking WHERE id = $1",
    )
    async with box.db.pool.connection() as connection:
        with pytest.raises(Exception, match="colour"):
            await connection.execute(f"PREPARE checked AS {wrong.numbered}".encode())
