"""The history of a payment over the API, for those who may see it and no others."""

import itertools
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


async def test_every_step_of_a_refund_is_told_and_is_nobody_elses_business(house: RunningHouse) -> None:
    booking, _ = await house.buy(house.network.bus(), ["1A"])
    hold = {"authorization": f"Hold {booking['holdToken']}"}
    await house.api.post(f"/api/bookings/{booking['bookingId']}/cancel", headers=hold)
    await house.refunds_until(booking, "succeeded")
    (row,) = await house.box.rows("SELECT id, state FROM refund WHERE booking_id = %s", booking["bookingId"])
    address = f"/api/refunds/{row['id']}/history"
    pearl = await staff_headers(house, "operator_finance", "pearl")
    answer = await house.api.get(address, headers=pearl)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["refundId"] == str(row["id"])
    steps = [(step["fromState"], step["toState"]) for step in told["steps"]]
    assert steps[:2] == [("NEW", "REQUESTED"), ("REQUESTED", "SUBMITTING")]
    assert steps[-1][1] == "SUCCEEDED"
    assert all(before[1] == after[0] for before, after in itertools.pairwise(steps))
    assert told["steps"][0]["reason"]
    assert (await house.api.get(address)).status_code == 401
    assert (await house.api.get(address, headers=hold)).status_code == 401
    other = await staff_headers(house, "operator_finance", "lake")
    assert (await house.api.get(address, headers=other)).status_code == 404
    unknown = f"/api/refunds/{uuid4()}/history"
    assert (await house.api.get(unknown, headers=pearl)).status_code == 404
