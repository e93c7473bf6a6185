"""A trip of 200 bookings is cancelled by processes that are killed: each gets its money back once."""

import asyncio
import os
import random
import subprocess
import sys
from uuid import UUID

from tests.house import until
from tests.network import STANDARD_UGX
from tests.office import Office, open_office
from tests.sold_out import sell_out

from kiti.flows.cancel_trip import finish_cancelled_trips

MANY = 200


async def test_two_hundred_are_refunded_once_each_though_the_process_is_killed_twice(fresh_url: str) -> None:
    async with open_office(fresh_url) as office:
        trip = office.network.bus()
        operator = office.network.bus_line.operator.id
        await sell_out(office.box, trip=trip, operator=operator, fare=STANDARD_UGX, many=MANY)
        await office.is_well()
        dice = random.Random(11)
        dealt_with = 0
        for _ in range(2):
            mark = dealt_with + dice.randint(1, 60)
            running = await _start(fresh_url, trip)
            await until(
                lambda: _noted(office, trip),
                lambda made, mark=mark, running=running: made >= mark or running.returncode is not None,  # type: ignore[misc]
                within_seconds=60,
            )
            if running.returncode is None:
                running.kill()
            said, _ = await running.communicate()
            assert dealt_with < await _noted(office, trip) < MANY, f"it was not killed in the middle: {said!r}"
            dealt_with = await _noted(office, trip)
        running = await _start(fresh_url, trip)
        said, _ = await running.communicate()
        assert running.returncode == 0, said
        assert f"{MANY - dealt_with} bookings get their money back" in " ".join(said.decode().split())
        rows = await office.box.rows(
            "SELECT count(*) AS refunds, count(DISTINCT booking_id) AS bookings, sum(amount)::bigint AS amount"
            " FROM refund"
        )
        assert rows == [{"refunds": MANY, "bookings": MANY, "amount": MANY * STANDARD_UGX}]
        assert await office.owners(trip) == {}
        assert await office.box.value("SELECT count(*) FROM ticket WHERE state <> 'void'") == 0
        assert await office.box.value("SELECT count(*) FROM booking WHERE state <> 'cancelled'") == 0


async def test_more_that_fail_than_a_page_holds_keep_nobody_waiting(fresh_url: str) -> None:
    async with open_office(fresh_url) as office:
        trip = office.network.bus()
        operator = office.network.bus_line.operator.id
        await sell_out(office.box, trip=trip, operator=operator, fare=STANDARD_UGX, many=8)
        last = await office.box.rows("SELECT id FROM booking ORDER BY id DESC LIMIT 2")
        bound = last[-1]["id"]
        await office.box.rows("UPDATE trip SET state = 'cancelled' WHERE id = %s", trip)
        await office.box.rows(f"ALTER TABLE trip_refund ADD CONSTRAINT trouble CHECK (booking_id >= '{bound}')")
        assert await finish_cancelled_trips(office.house, most=2, page_size=4) == (2, 6)
        assert await office.box.value("SELECT count(*) FROM refund") == 2


async def _start(url: str, trip: UUID) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kiti", "trips", "cancel", str(trip), "--reason", "The road is closed."),
        env={
            **os.environ,
            "NO_COLOR": "1",
            "KITI_DEMO": "1",
            "DATABASE_URL": url,
            "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


async def _noted(office: Office, trip: UUID) -> int:
    found: int = await office.box.value("SELECT count(*) FROM trip_refund WHERE trip_id = %s", trip)
    return found
