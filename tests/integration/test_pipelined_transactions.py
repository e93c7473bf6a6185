"""A pipelined transaction on a connection on which something else was done before."""

import pytest

from kiti.bookings import reads
from kiti.core.errors import NotFound
from kiti.core.ids import new_id
from kiti.db import Database

# More often than psycopg needs to see a statement before it prepares it (`prepare_threshold`, 5).
OFTEN = 8


async def test_a_pipelined_transaction_works_on_a_connection_on_which_another_was_rolled_back(fresh_url: str) -> None:
    """After a ROLLBACK psycopg sends DEALLOCATE ALL, if it has prepared anything: what others prepared goes with it."""
    db = Database(fresh_url, minimum=1, maximum=1)
    await db.open()
    try:
        async with db.transaction(pipelined=True) as tx:
            assert await reads.seats_of(tx, bookings=[new_id()]) == []
        async with db.reader() as reader:
            for _ in range(OFTEN):
                assert await reads.seats_of(reader, bookings=[new_id()]) == []
        with pytest.raises(NotFound):
            async with db.transaction() as tx:
                await reads.by_id(tx, booking=new_id())
        async with db.transaction(pipelined=True) as tx:
            assert await reads.seats_of(tx, bookings=[new_id()]) == []
    finally:
        await db.close()
