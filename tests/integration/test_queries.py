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


def numbered(query: Query) -> str:
    """The statement with $1, $2 ... as PREPARE wants it; a name that stands twice has one number."""
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

    return PARAMETER.sub(number, query.text)


@pytest.mark.parametrize("package", PACKAGES)
async def test_every_query_can_be_prepared(box: Box, package: str) -> None:
    async with box.db.pool.connection() as connection:
        for query in load(package):
            # Not through psycopg's parameters: PostgreSQL itself has to find a type for each.
            await connection.execute(f"PREPARE checked AS {numbered(query)}".encode())
            await connection.execute("DEALLOCATE checked")


async def test_a_name_that_the_schema_lacks_would_be_noticed(box: Box) -> None:
    wrong = Query("wrong", "many", "SELECT colour FROM booking WHERE id = %(id)s")
    async with box.db.pool.connection() as connection:
        with pytest.raises(Exception, match="colour"):
            await connection.execute(f"PREPARE checked AS {numbered(wrong)}".encode())
