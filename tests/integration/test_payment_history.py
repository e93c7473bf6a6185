"""The history of a payment over the API, for those who may see it and no others."""

from uuid import uuid4

from tests.house import RunningHouse
from tests.staff import staff_headers


async def test_every_step_of_a_payment_is_told_to_staff_of_its_operator_and_of_the_platform(
    house: RunningHouse,
) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    address = f"/api/payments/{payment['paymentId']}/history"
    pearl = await staff_headers(house, "operator_finance", "pearl")
    for headers in (pearl, await staff_headers(house, "platform_finance")):
        answer = await house.api.get(address, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json()
        assert told["paymentId"] == payment["paymentId"]
        assert [(step["fromState"], step["toState"]) for step in told["steps"]] == [
            ("NEW", "CREATED"),
            ("CREATED", "SUBMITTING"),
            ("SUBMITTING", "PENDING"),
            ("PENDING", "CAPTURED"),
        ]
        assert all(step["at"].endswith("Z") and step["reason"] for step in told["steps"])
    assert booking["reference"] not in answer.text


async def test_the_history_is_nobody_elses_business(house: RunningHouse) -> None:
    booking, payment = await house.buy(house.network.bus(), ["1A"])
    address = f"/api/payments/{payment['paymentId']}/history"
    hold = {"authorization": f"Hold {booking['holdToken']}"}
    assert (await house.api.get(address)).status_code == 401
    assert (await house.api.get(address, headers=hold)).status_code == 401
    staff = await staff_headers(house, "operator_staff", "pearl")
    assert (await house.api.get(address, headers=staff)).status_code == 403
    other = await staff_headers(house, "operator_finance", "lake")
    assert (await house.api.get(address, headers=other)).status_code == 404
    unknown = f"/api/payments/{uuid4()}/history"
    assert (await house.api.get(unknown, headers=await staff_headers(house))).status_code == 404


async def test_the_openapi_document_tells_of_it(house: RunningHouse) -> None:
    paths = (await house.api.get("/schema/openapi.json")).json()["paths"]
    shown = paths["/api/payments/{payment_id}/history"]["get"]
    assert shown["security"] == [{"staff": []}]
