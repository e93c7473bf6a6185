"""The simulated Stripe by itself, held against what Stripe's documentation says."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.contract.gateways import Simulator, new_reference


@pytest.fixture
def http(simulator: Simulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {simulator.stripe_secret_key}"}
    with httpx.Client(base_url=f"{simulator.url}/v1", headers=headers, trust_env=False) as client:
        yield client


def session(**changes: str) -> dict[str, str]:
    return {
        "mode": "payment",
        "client_reference_id": new_reference(),
        "success_url": "https://kiti.example/return",
        "payment_intent_data[capture_method]": "manual",
        "line_items[0][quantity]": "2",
        "line_items[0][price_data][currency]": "ugx",
        "line_items[0][price_data][unit_amount]": "500000",
        "line_items[0][price_data][product_data][name]": "Kampala to Mbarara",
        **changes,
    }


def authorised(http: httpx.Client, simulator: Simulator) -> str:
    form = session()
    http.post("/checkout/sessions", data=form).raise_for_status()
    [identity] = simulator.pay(form["client_reference_id"])
    return identity


def test_one_key_is_one_answer_and_another_body_is_an_error(http: httpx.Client) -> None:
    form, key = session(), {"Idempotency-Key": new_reference()}
    first = http.post("/checkout/sessions", data=form, headers=key)
    again = http.post("/checkout/sessions", data=form, headers=key)
    assert first.json() == again.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    other = http.post("/checkout/sessions", data=session(), headers=key)
    assert (other.status_code, other.json()["error"]["type"]) == (400, "idempotency_error")


def test_what_was_refused_for_its_parameters_is_not_kept(http: httpx.Client) -> None:
    form, key = session(), {"Idempotency-Key": new_reference()}
    assert http.post("/checkout/sessions", data={**form, "mode": "setup"}, headers=key).status_code == 400
    assert http.post("/checkout/sessions", data=form, headers=key).status_code == 200


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"line_items[0][price_data][unit_amount]": "500001"}, "line_items[0][price_data][unit_amount]"),
        ({"success_url": "nowhere"}, "success_url"),
        ({"expires_at": "1"}, "expires_at"),
        ({"line_items[0][quantity]": "two"}, "quantity"),
    ],
    ids=str,
)
def test_a_refusal_names_the_parameter(http: httpx.Client, wrong: dict[str, str], param: str) -> None:
    refused = http.post("/checkout/sessions", data=session(**wrong))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_an_unknown_id_is_missing_and_a_wrong_key_is_no_answer(http: httpx.Client) -> None:
    missing = http.get("/payment_intents/pi_unknown")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "resource_missing")
    assert http.get("/payment_intents/pi_unknown", headers={"Authorization": "Bearer sk"}).status_code == 401


def test_ids_are_expanded_on_demand(http: httpx.Client, simulator: Simulator) -> None:
    identity = authorised(http, simulator)
    taken = http.post(
        f"/payment_intents/{identity}/capture", data={"expand[]": "latest_charge.balance_transaction"}
    ).json()
    assert taken["latest_charge"]["balance_transaction"]["fee"] == 29_000
    plain = http.get(f"/payment_intents/{identity}").json()
    assert plain["latest_charge"] == taken["latest_charge"]["id"]
    assert http.get(f"/payment_intents/{identity}", params={"expand[]": "nothing"}).status_code == 400


def test_a_capture_may_take_less_and_never_more(http: httpx.Client, simulator: Simulator) -> None:
    identity = authorised(http, simulator)
    more = http.post(f"/payment_intents/{identity}/capture", data={"amount_to_capture": "1000100"})
    assert more.json()["error"]["code"] == "amount_too_large"
    less = http.post(f"/payment_intents/{identity}/capture", data={"amount_to_capture": "500000"}).json()
    assert (less["amount_received"], less["amount_capturable"], less["status"]) == (500_000, 0, "succeeded")


def test_a_payout_is_the_sum_of_what_moved_the_balance(http: httpx.Client, simulator: Simulator) -> None:
    simulator.post("/_sim/stripe/settle", {})  # what other tests have left
    identity = authorised(http, simulator)
    http.post(f"/payment_intents/{identity}/capture").raise_for_status()
    http.post("/refunds", data={"payment_intent": identity, "amount": "100000"}).raise_for_status()
    [payout] = simulator.post("/_sim/stripe/settle", {"currency": "ugx"})["payout_ids"]
    lines: list[dict[str, Any]] = http.get("/balance_transactions", params={"payout": payout}).json()["data"]
    assert {line["type"]: line["net"] for line in lines} == {"charge": 971_000, "refund": -100_000, "payout": -871_000}
    [found] = http.get("/payouts", params={"limit": "1"}).json()["data"]
    assert (found["id"], found["amount"], found["status"]) == (payout, 871_000, "paid")


def test_the_page_shows_the_amount_and_does_what_its_buttons_say(http: httpx.Client) -> None:
    opened = http.post("/checkout/sessions", data=session()).json()
    page = http.get(opened["url"])
    assert "UGX 10,000.00" in page.text
    declined = http.post(opened["url"], data={"action": "decline"})
    assert "declined" in declined.text
    paid = http.post(opened["url"], data={"action": "pay"})
    assert (paid.status_code, paid.headers["location"]) == (303, "https://kiti.example/return")
    assert http.get(opened["url"]).status_code == 410
