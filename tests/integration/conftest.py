from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from tests.cluster import Cluster, running_cluster
from tests.conftest import database_url, fresh_database
from tests.hooked import Desk, open_desk
from tests.receiver import Receiver


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """The URL of a database with nothing in it; dropped afterwards."""
    name = f"kiti_empty_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield database_url(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of its own that a test may kill."""
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
async def module_desk(server_url: str, template: str) -> AsyncIterator[Desk]:
    with fresh_database(server_url, template) as url:
        async with open_desk(url) as there:
            yield there


@pytest.fixture
async def desk(module_desk: Desk) -> AsyncIterator[Desk]:
    """One for all tests of this file; each begins without endpoints, and today."""
    yield module_desk
    await module_desk.forget_endpoints()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as there:
        yield there
