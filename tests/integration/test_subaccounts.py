"""Accounts of operators at a gateway: opened once, found when an answer was lost, and no payment is split to them."""

from tests.house import JsonObject, RunningHouse

PEARL = ("--country", "UG", "--bank", "044", "--name", "Pearl Coaches", "--email", "p@example.com")
MORE = ("--phone", "+256772000001", "--percent", "2.5")


async def subaccounts(house: RunningHouse, account: str) -> list[JsonObject]:
    """What the gateway has under an account number."""
    return [row for row in (await house.sim.state())["subaccounts"] if row["account_number"] == account]


async def say(house: RunningHouse, account: str, *more: str) -> tuple[int, str]:
    return await house.kiti("payments", "subaccounts", "open", "pearl", *PEARL, *MORE, "--account", account, *more)


async def test_an_account_is_opened_once_stored_and_shown(house: RunningHouse) -> None:
    for _ in range(2):
        code, said = await say(house, "0690000031")
        assert code == 0, said
    [opened] = await subaccounts(house, "0690000031")
    assert opened["split_value"] == 0.025
    assert opened["subaccount_id"] in said
    _, listed = await house.kiti("payments", "subaccounts", "list")
    assert f"2.5 % ours: {opened['subaccount_id']}" in listed
    booking = await house.reserve(house.network.bus(), ["1A"])
    payment = await house.initiate(booking)
    [link] = (await house.sim.state(payment))["links"]
    assert link["subaccounts"] is None, "operators are paid by settlements"


async def test_an_account_whose_answer_was_lost_is_found_and_not_opened_twice(house: RunningHouse) -> None:
    await house.sim.api_fault(match="POST /v3/subaccounts", times=1, http_status_after=503)
    await house.sim.api_fault(match="GET /v3/subaccounts", times=3, http_status=503)
    code, said = await say(house, "0690000032")
    assert (code, "looks before it asks" in said) == (1, True), said
    code, said = await say(house, "0690000032")
    assert code == 0, said
    [opened] = await subaccounts(house, "0690000032")
    assert opened["subaccount_id"] in said


async def test_what_a_gateway_refuses_is_not_kept(house: RunningHouse) -> None:
    before = await house.box.value("SELECT count(*) FROM subaccount")
    await house.sim.api_fault(match="POST /v3/subaccounts", times=1, http_status=400)
    code, said = await say(house, "0690000033")
    assert (code, "refuses it" in said) == (1, True), said
    code, said = await say(house, "0690000034", "--gateway", "stripe")
    assert (code, "no accounts for operators" in said) == (1, True), said
    assert await house.box.value("SELECT count(*) FROM subaccount") == before
