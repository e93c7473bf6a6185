"""Settlements and chargebacks of the simulated gateway, through the real adapter, job and command."""

from typing import Any

from tests.house import JsonObject, RunningHouse


async def sim(house: RunningHouse, path: str, **body: Any) -> JsonObject:
    answer = await house.sim.http.post(path, json=body)
    assert answer.is_success, answer.text
    found: JsonObject = answer.json()
    return found


async def clearing(house: RunningHouse) -> int:
    found: int = await house.box.value(
        "SELECT coalesce(sum(CASE WHEN debit LIKE 'gateway_clearing:%%' THEN amount ELSE -amount END), 0)::bigint"
        " FROM transfer WHERE debit LIKE 'gateway_clearing:%%' OR credit LIKE 'gateway_clearing:%%'"
    )
    return found


async def test_what_the_simulator_settles_leaves_clearing_empty(own_house: RunningHouse) -> None:
    house = own_house
    booking, payment = await house.buy(house.network.bus(), ["1A", "1B"])
    await house.buy(house.network.lake(), ["1A"])
    assert await clearing(house) > 0
    await sim(house, "/_sim/settle")
    assert (await house.job("reconcile-payments"))["failed"] == 0
    assert await house.box.value("SELECT settlements FROM reconciliation_run") == 2
    assert await clearing(house) == 0
    (transaction,) = (await house.sim.state(payment))["transactions"]
    opened = await sim(house, "/_sim/chargebacks", transaction_id=transaction["id"])
    await house.job("poll-disputes")
    code, said = await house.kiti("disputes", "list")
    assert (code, booking["reference"] in said) == (0, True), said
    dispute = said.split()[0]
    code, said = await house.kiti("disputes", "contest", dispute, "--comment", "They travelled: https://example.com/p")
    assert (code, "the gateway has the answer" in said) == (0, True), said
    await sim(house, f"/_sim/chargebacks/{opened['id']}", status="lost")
    await house.job("poll-disputes")
    assert (await house.booking(booking))["status"] == "CANCELLED"
    await house.buy(house.network.bus(), ["1A"])
    await sim(house, "/_sim/settle")
    assert (await house.job("reconcile-payments"))["failed"] == 0
    assert await clearing(house) == 0
    await house.is_well()
