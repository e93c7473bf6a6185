"""The seat map's script tells the same total as the page without it, whatever is asked beside the fares."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.async_api import expect
from tests.e2e.conftest import Arrive
from tests.house import RunningHouse

from kiti.core.ids import new_id
from kiti.fees import actions as fees
from kiti.fees.model import FeeRule

pytestmark = pytest.mark.browser
CHOSEN: Sequence[Sequence[str]] = (("3A",), ("3A", "3B"), ("1A", "3A", "3B"), ("1A", "1B", "3A", "3B", "4A"))


async def ask(house: RunningHouse, kind: Any, **said: Any) -> None:
    began = datetime(2020, 1, 1, tzinfo=UTC)
    rule = FeeRule(id=new_id(), kind=kind, borne_by="traveller", currency="UGX", valid_from=began, **said)
    async with house.box.db.transaction() as tx:
        await fees.set_rule(tx, rule=rule)


async def test_a_total_is_the_same_with_and_without_the_script(arrive: Arrive, own_house: RunningHouse) -> None:
    house = own_house
    await ask(house, "tax", basis_points=333)
    await ask(house, "platform_fee", basis_points=137, fixed=111, minimum=1_000, maximum=1_300, per="seat")
    await ask(house, "gateway_fee", basis_points=55, maximum=900)
    await ask(house, "gateway_fee", basis_points=25, fixed=20, method="CARD")
    trip = house.network.double()
    amina = await arrive(at=house)
    bar = amina.page.locator("#chosen strong")
    for seats in CHOSEN:
        answer = await house.api.get(f"/trips/{trip}/seats", params={"seats": ",".join(seats)})
        written = re.search(r"<strong>(UGX.[0-9,]+)</strong>", answer.text)
        assert written is not None
        await amina.open_map(trip)
        await amina.choose(*seats)
        await expect(bar).to_have_text(written[1])
