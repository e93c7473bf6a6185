"""The simulated gateway speaks Flutterwave v3, and goes wrong on demand."""

import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.simulated import SHOP, WEBHOOK_HASH, Receiver, Simulator, anything, eventually, running


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[tuple[Simulator, Receiver]]:
    async with running(None) as both:
        yield both


@pytest.fixture
async def sim(shared: tuple[Simulator, Receiver]) -> AsyncIterator[Simulator]:
    simulator, receiver = shared
    before = (await simulator.get("/_sim/state"))["config"]
    yield simulator
    receiver.answers.clear()
    receiver.answers_about = anything
    await simulator.http.delete("/_sim/faults")
    await simulator.post("/_sim/config", **before)


@pytest.fixture
def hooks(shared: tuple[Simulator, Receiver], sim: Simulator) -> Receiver:
    return shared[1]


def of(tx_id: int) -> Callable[[dict[str, Any]], bool]:
    """Whether a webhook is about this charge. As in life, charges, refunds and transfers number alike."""
    return lambda body: (
        (body.get("event") == "charge.completed" and body["data"]["id"] == tx_id)
        or ("txRef" in body and body["id"] == tx_id)
    )


async def test_a_wrong_key_is_refused_in_the_envelope(sim: Simulator) -> None:
    answer = await sim.http.get("/v3/transactions", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401
    assert answer.json() == {"status": "error", "message": "Invalid authorization key", "data": None}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tx_ref": None}, "tx_ref is required"),
        ({"customer": {"name": "no mail"}}, "customer.email is required"),
        ({"customer": {"email": "nobody"}}, "customer.email must be a valid email"),
        ({"amount": 0}, "amount must be greater than 0"),
        ({"redirect_url": "return"}, "redirect_url must be a valid uri"),
        ({"configurations": {"session_duration": 1441}}, "session_duration must be between 1 and 1440"),
    ],
)
async def test_a_payment_that_lacks_something_is_refused(sim: Simulator, wrong: dict[str, Any], message: str) -> None:
    body = {"tx_ref": "lacking", "amount": "10", "redirect_url": SHOP, "customer": {"email": "a@b.c"}} | wrong
    answer = await sim.http.post("/v3/payments", json={k: v for k, v in body.items() if v is not None})
    assert (answer.status_code, answer.json()["message"]) == (400, message)


async def test_a_reference_opens_one_link_only(sim: Simulator) -> None:
    tx_ref, _ = await sim.link()
    body = {"tx_ref": tx_ref, "amount": 1, "redirect_url": SHOP, "customer": {"email": "a@b.c"}}
    answer = await sim.http.post("/v3/payments", json=body)
    assert (answer.status_code, answer.json()["data"]) == (400, None)


async def test_the_buyer_pays_on_the_page_and_everyone_hears_of_it(sim: Simulator, hooks: Receiver) -> None:
    tx_ref, link = await sim.link(amount="20", meta={"booking": "7"})
    page = await sim.http.get(link)
    assert page.status_code == 200
    assert 'name="action" value="pay"' in page.text
    pressed = await sim.http.post(link, data={"action": "pay"})
    assert pressed.status_code == 303
    back = urlsplit(pressed.headers["location"])
    query = {k: v[0] for k, v in parse_qs(back.query).items()}
    tx_id = int(query.pop("transaction_id"))
    assert query == {"status": "successful", "tx_ref": tx_ref}

    [event] = await hooks.wait(1, about=of(tx_id))
    assert hooks.hashes[-1] == WEBHOOK_HASH
    assert event["event"] == "charge.completed"
    assert event["event.type"] == "MOBILEMONEYRW_TRANSACTION"
    assert event["meta_data"] == {"booking": "7"}
    truth = (await sim.get(f"/v3/transactions/{tx_id}/verify"))["data"]
    assert (truth["amount"], truth["app_fee"], truth["amount_settled"]) == (20, 0.58, 19.42)
    assert (truth["currency"], truth["status"], truth["tx_ref"]) == ("RWF", "successful", tx_ref)
    assert event["data"].items() <= truth.items()
    assert (await sim.get("/v3/transactions/verify_by_reference", tx_ref=tx_ref))["data"] == truth
    again = await sim.http.get(link)
    assert (again.status_code, "made already" in again.text) == (410, True)


async def test_a_decline_is_announced_as_completed_and_the_link_lives_on(sim: Simulator, hooks: Receiver) -> None:
    tx_ref, _ = await sim.link(configurations={"max_retry_attempt": 2})
    declined = await sim.pay(tx_ref, "decline")
    [event] = await hooks.wait(1, about=of(declined["transaction_ids"][0]))
    assert (event["event"], event["data"]["status"]) == ("charge.completed", "failed")
    assert "status=failed" in declined["redirect"]
    assert (await sim.pay(tx_ref, "decline"))["status"] == "failed"
    assert "exhausted" in (await sim.pay(tx_ref))["message"]


async def test_cancelling_makes_no_transaction(sim: Simulator) -> None:
    tx_ref, _ = await sim.link()
    cancelled = await sim.pay(tx_ref, "cancel")
    assert cancelled["redirect"] == f"{SHOP}?status=cancelled&tx_ref={tx_ref}"
    answer = await sim.http.get("/v3/transactions/verify_by_reference", params={"tx_ref": tx_ref})
    assert (answer.status_code, answer.json()["data"]) == (400, None)


async def test_a_late_payment_is_pending_first(sim: Simulator, hooks: Receiver) -> None:
    tx_ref, link = await sim.link()
    pressed = await sim.http.post(link, data={"action": "pay-late", "delay_seconds": "0.3"})
    assert "status=pending" in pressed.headers["location"]
    tx = (await sim.get("/v3/transactions/verify_by_reference", tx_ref=tx_ref))["data"]
    assert (tx["status"], tx["amount_settled"]) == ("pending", None)
    await sim.until(f"/v3/transactions/{tx['id']}/verify", "status", "successful")
    await hooks.wait(1, about=of(tx["id"]))


async def test_paying_twice_makes_two_transactions_with_one_reference(sim: Simulator, hooks: Receiver) -> None:
    tx_ref, _ = await sim.link()
    first, second = (await sim.pay(tx_ref, "pay-twice"))["transaction_ids"]
    await hooks.wait(1, about=of(first))
    await hooks.wait(1, about=of(second))
    best = (await sim.get("/v3/transactions/verify_by_reference", tx_ref=tx_ref))["data"]
    assert best["id"] == second
    listed = await sim.get("/v3/transactions", tx_ref=tx_ref)
    assert [row["id"] for row in listed["data"]] == [second, first]


async def test_saying_nothing_pays_without_return_or_webhook(sim: Simulator) -> None:
    tx_ref, link = await sim.link()
    pressed = await sim.http.post(link, data={"action": "say-nothing"})
    assert pressed.status_code == 200
    state = await sim.get("/_sim/state", tx_ref=tx_ref)
    assert [tx["status"] for tx in state["transactions"]] == ["successful"]
    assert state["deliveries"] == []


async def test_paying_without_webhook_still_returns_and_a_resend_heals(sim: Simulator, hooks: Receiver) -> None:
    tx_ref, _ = await sim.link()
    paid = await sim.pay(tx_ref, "pay-without-webhook")
    [tx_id] = paid["transaction_ids"]
    assert "status=successful" in paid["redirect"]
    assert (await sim.get("/_sim/state", tx_ref=tx_ref))["deliveries"] == []
    assert (await sim.post(f"/v3/transactions/{tx_id}/resend-hook"))["data"] == "hook sent"
    await hooks.wait(1, about=of(tx_id))
    notes = [event["note"] for event in (await sim.get(f"/v3/transactions/{tx_id}/events"))["data"]]
    assert notes[0] == "Pay button clicked"


async def test_a_disabled_link_cannot_be_paid_unless_forced(sim: Simulator) -> None:
    tx_ref, link = await sim.link()
    assert (await sim.post("/v3/payments/link/disable", link=link))["status"] == "success"
    again = await sim.http.post("/v3/payments/link/disable", json={"link": link})
    assert (again.status_code, again.json()["message"]) == (400, "This payment link is currently inactive")
    page = await sim.http.post(link, data={"action": "pay"})
    assert (page.status_code, "currently inactive" in page.text) == (410, True)
    assert (await sim.pay(tx_ref))["status"] == "error"
    assert (await sim.pay(tx_ref, force=True))["status"] == "successful"


async def test_a_link_ends_with_its_session(sim: Simulator) -> None:
    tx_ref, link = await sim.link(configurations={"session_duration": 15})
    await sim.post("/_sim/expire", tx_ref=tx_ref)
    page = await sim.http.get(link)
    assert (page.status_code, "has expired" in page.text) == (410, True)
    assert (await sim.http.post(link, data={"action": "pay"})).status_code == 410


async def test_less_or_more_may_be_paid_than_was_asked(sim: Simulator) -> None:
    tx_ref, _ = await sim.link()
    [tx_id] = (await sim.pay(tx_ref, amount=4999.5, currency="UGX"))["transaction_ids"]
    data = (await sim.get(f"/v3/transactions/{tx_id}/verify"))["data"]
    assert (data["amount"], data["currency"]) == (4999.5, "UGX")


async def test_a_customer_who_bears_the_fee_is_charged_more(sim: Simulator) -> None:
    await sim.post("/_sim/config", fee_bearer="customer")
    tx_id = await sim.paid(amount=50, currency="NGN")
    data = (await sim.get(f"/v3/transactions/{tx_id}/verify"))["data"]
    assert (data["amount"], data["charged_amount"], data["app_fee"]) == (50, 50.7, 0.7)
    fee = (await sim.get("/v3/transactions/fee", amount=50, currency="NGN"))["data"]
    assert (fee["charge_amount"], fee["fee"], fee["flutterwave_fee"]) == (50.7, 0.7, 0.7)


async def test_transactions_are_listed_in_pages_by_day(sim: Simulator) -> None:
    for _ in range(11):
        await sim.paid(currency="GHS")
    first = await sim.get("/v3/transactions", currency="GHS")
    assert first["meta"]["page_info"] == {"total": 11, "current_page": 1, "total_pages": 2, "page_size": 10}
    assert len((await sim.get("/v3/transactions", currency="GHS", page=2))["data"]) == 1
    row = first["data"][0]
    assert (row["amount_settled"], row["customer_email"]) == (4855, "amina@example.com")
    today = row["created_at"][:10]
    within = await sim.get("/v3/transactions", currency="GHS", **{"from": today, "to": today})
    assert within["meta"]["page_info"]["total"] == 11
    before = await sim.get("/v3/transactions", currency="GHS", to="2020-01-01")
    assert before["data"] == []


async def test_a_ugandan_charge_answers_a_redirect_without_an_id(sim: Simulator, hooks: Receiver) -> None:
    body = {"tx_ref": "direct-ug", "amount": 9000, "currency": "UGX", "email": "a@b.c", "phone_number": "256700000001"}
    answer = await sim.post("/v3/charges?type=mobile_money_uganda", **body)
    assert "data" not in answer
    assert answer["meta"]["authorization"]["mode"] == "redirect"
    page = answer["meta"]["authorization"]["redirect"]
    assert "UGX 9,000" in (await sim.http.get(page)).text
    pressed = await sim.http.post(page, data={"action": "pay"})
    assert pressed.status_code == 200
    tx = (await sim.get("/v3/transactions/verify_by_reference", tx_ref="direct-ug"))["data"]
    assert (tx["status"], tx["payment_type"]) == ("successful", "mobilemoneyug")
    await hooks.wait(1, about=of(tx["id"]))
    assert (await sim.http.get(page)).status_code == 410


async def test_an_mpesa_charge_is_pending_until_the_phone_says_yes(sim: Simulator) -> None:
    body = {"tx_ref": "direct-ke", "amount": 100, "currency": "KES", "email": "a@b.c", "phone_number": "254700000001"}
    answer = await sim.post("/v3/charges?type=mpesa", **body)
    assert answer["data"]["status"] == "pending"
    paid = await sim.pay("direct-ke")
    assert paid["transaction_ids"] == [answer["data"]["id"]]
    wrong = await sim.http.post("/v3/charges?type=mpesa", json=body | {"tx_ref": "x", "currency": "NGN"})
    assert wrong.status_code == 400


async def test_a_refund_is_completed_before_it_is_paid_out(sim: Simulator, hooks: Receiver) -> None:
    tx_id = await sim.paid()
    refund = (await sim.post(f"/v3/transactions/{tx_id}/refund", amount=2000, comments="trip cancelled"))["data"]
    assert (refund["status"], refund["tx_id"], refund["amount_refunded"]) == ("completed", tx_id, 2000)
    await sim.until(f"/v3/refunds/{refund['id']}", "status", "completed-momo")
    begun, ended = await hooks.wait(2, about=lambda body: body.get("TransactionId") == tx_id)
    assert (begun["status"], ended["status"]) == ("completed", "completed-momo")
    assert (ended["AmountRefunded"], ended["TransactionId"]) == (2000, tx_id)
    assert json.loads(ended["meta"]) == {"source": "availablebalance"}


async def test_asked_twice_it_refunds_twice_but_never_more_than_was_taken(sim: Simulator) -> None:
    tx_id = await sim.paid(amount=1000)
    path = f"/v3/transactions/{tx_id}/refund"
    ids = {(await sim.post(path, amount=400))["data"]["id"] for _ in range(2)}
    assert len(ids) == 2
    beyond = await sim.http.post(path, json={"amount": 400})
    assert (beyond.status_code, beyond.json()["status"]) == (400, "error")
    assert (await sim.post(path))["data"]["amount_refunded"] == 200
    listed = (await sim.get("/v3/refunds"))["data"]
    assert ids < {row["id"] for row in listed if row["tx_id"] == tx_id}


async def test_a_card_refund_may_fail_on_demand_and_frees_its_amount(sim: Simulator) -> None:
    await sim.post("/_sim/config", refund_outcome="failed", refund_delay_seconds=0.01)
    tx_ref, _ = await sim.link(currency="USD", amount=10)
    [tx_id] = (await sim.pay(tx_ref))["transaction_ids"]
    refund = (await sim.post(f"/v3/transactions/{tx_id}/refund"))["data"]
    failed = {"source": "availablebalance", "disburse_status": "failed"}
    await sim.until(f"/v3/refunds/{refund['id']}", "meta", failed)
    await sim.post("/_sim/config", refund_outcome="paid")
    again = (await sim.post(f"/v3/transactions/{tx_id}/refund"))["data"]
    await sim.until(f"/v3/refunds/{again['id']}", "status", "completed-mpgs")
    by_hand = await sim.post(f"/_sim/refunds/{again['id']}", status="processing", webhook=False)
    assert by_hand["status"] == "processing"


async def test_a_transfer_ends_and_is_announced(sim: Simulator, hooks: Receiver) -> None:
    await sim.post("/_sim/config", transfer_delay_seconds=0.05)
    wanted = {"account_bank": "MPS", "account_number": "250780000001", "amount": 100, "currency": "RWF"}
    answer = await sim.post("/v3/transfers", **wanted, reference="payout-1", beneficiary_name="Volcano")
    assert answer["data"]["status"] == "NEW"
    await sim.until(f"/v3/transfers/{answer['data']['id']}", "status", "SUCCESSFUL")
    [event] = await hooks.wait(1, about=lambda body: body.get("event") == "transfer.completed")
    assert (event["data"]["reference"], event["data"]["status"]) == ("payout-1", "SUCCESSFUL")
    assert (await sim.http.post("/v3/transfers", json=wanted | {"reference": "payout-1"})).status_code == 400

    await sim.post("/_sim/faults", webhooks={"match": "transfer", "shape": "legacy"})
    nameless = (await sim.post("/v3/transfers", **wanted, reference="payout-2"))["data"]
    await sim.until(f"/v3/transfers/{nameless['id']}", "status", "FAILED")
    [wrapped] = await hooks.wait(1, about=lambda body: body.get("transfer", {}).get("id") == nameless["id"])
    assert wrapped["event.type"] == "Transfer"
    found = await sim.get("/v3/transfers", reference="payout-2")
    assert [row["complete_message"] for row in found["data"]] == ["beneficiary_name is required"]


async def test_a_settlement_is_gross_less_fees_refunds_and_chargebacks(sim: Simulator) -> None:
    await sim.post("/_sim/config", refund_outcome="stuck")
    kept, returned, disputed = [await sim.paid(currency="TZS", amount=1000) for _ in range(3)]
    await sim.post(f"/v3/transactions/{returned}/refund", amount=300)
    chargeback = await sim.post("/_sim/chargebacks", transaction_id=disputed, amount=1000, comment="not me")
    assert (await sim.get("/v3/chargebacks", status="initiated"))["data"][0]["transaction_id"] == disputed
    accepted = await sim.http.put(f"/v3/chargebacks/{chargeback['id']}", json={"action": "accept", "comment": "ok"})
    assert accepted.json()["data"]["status"] == "accepted"
    [settlement_id] = (await sim.post("/_sim/settle", currency="TZS"))["settlement_ids"]
    data = (await sim.get(f"/v3/settlements/{settlement_id}"))["data"]
    assert (data["gross_amount"], data["app_fee"], data["refund"], data["chargeback"]) == (3000, 87, 300, 1000)
    assert (data["net_amount"], data["transaction_count"]) == (1613, 3)
    assert data["meta"] == [kept, returned, disputed]
    assert [line["settlement_amount"] for line in data["transactions"]] == [971, 971, 971]
    assert settlement_id in [row["id"] for row in (await sim.get("/v3/settlements"))["data"]]
    assert (await sim.post("/_sim/settle", currency="TZS"))["settlement_ids"] == []


async def test_a_subaccount_is_opened_and_listed(sim: Simulator) -> None:
    body = {"account_bank": "MPS", "account_number": "1", "business_name": "Volcano", "country": "RW"}
    opened = (await sim.post("/v3/subaccounts", **body, split_type="percentage", split_value=0.05))["data"]
    assert opened["split_value"] == 0.05
    listed = (await sim.get("/v3/subaccounts"))["data"]
    assert opened["subaccount_id"] in [row["subaccount_id"] for row in listed]


async def test_only_200_acknowledges_and_there_are_three_retries(sim: Simulator, hooks: Receiver) -> None:
    await sim.post("/_sim/config", retry_seconds=0.05)
    tx_ref, _ = await sim.link()
    hooks.answers_about = lambda body: body.get("data", {}).get("tx_ref") == tx_ref
    hooks.answers += [500, 201, 302, 503]
    [tx_id] = (await sim.pay(tx_ref))["transaction_ids"]
    await hooks.wait(4, about=of(tx_id))

    async def ask() -> Any:
        delivery = (await sim.get("/_sim/state", tx_ref=tx_ref))["deliveries"][0]
        return delivery if delivery["state"] == "given_up" else None

    delivery = await eventually(ask)
    assert (delivery["attempts"], delivery["last_status"]) == (4, 503)


async def test_a_webhook_may_be_duplicated_dropped_signed_wrongly_or_flat(sim: Simulator, hooks: Receiver) -> None:
    script: list[dict[str, Any]] = [{"duplicate": 2}, {"drop": True}, {"verif_hash": "forged"}, {"shape": "legacy"}]
    await sim.post("/_sim/faults", webhooks=[{"match": "charge", "times": 1, **fault} for fault in script])
    doubled, dropped, forged, flat = [await sim.paid() for _ in script]
    assert len(await hooks.wait(3, about=of(doubled))) == 3
    await hooks.wait(1, about=of(forged))
    assert "forged" in hooks.hashes
    [body] = await hooks.wait(1, about=of(flat))
    assert "event" not in body
    assert (body["event.type"], body["appfee"]) == ("MOBILEMONEYRW_TRANSACTION", 145)
    assert not [body for body in hooks.bodies if of(dropped)(body)]


async def test_webhooks_may_come_late_and_out_of_order(sim: Simulator, hooks: Receiver) -> None:
    await sim.post(
        "/_sim/faults", webhooks=[{"match": "charge", "times": 3, "reorder": 3}, {"match": "charge", "delay_ms": 400}]
    )
    ids = [await sim.paid() for _ in range(4)]
    await hooks.wait(1, about=of(ids[3]))
    came = [body["data"]["id"] for body in hooks.bodies if body.get("data", {}).get("id") in ids]
    assert came == [ids[2], ids[1], ids[0], ids[3]]


async def test_a_lying_webhook_leaves_the_truth_with_verify(sim: Simulator, hooks: Receiver) -> None:
    await sim.post("/_sim/faults", webhooks={"match": "charge", "lie": {"status": "successful", "amount": 1}})
    tx_ref, _ = await sim.link()
    [tx_id] = (await sim.pay(tx_ref, "decline"))["transaction_ids"]
    [event] = await hooks.wait(1, about=of(tx_id))
    assert (event["data"]["status"], event["data"]["amount"]) == ("successful", 1)
    truth = (await sim.get(f"/v3/transactions/{tx_id}/verify"))["data"]
    assert (truth["status"], truth["amount"]) == ("failed", 5000)


async def test_a_webhook_is_replayed_byte_for_byte_and_any_body_can_be_forged(sim: Simulator, hooks: Receiver) -> None:
    tx_id = await sim.paid()
    await hooks.wait(1, about=of(tx_id))
    answer = await sim.post("/_sim/webhooks/replay", transaction_id=tx_id, copies=20, concurrency=5)
    assert answer["statuses"] == [200] * 20
    assert len({raw for raw in hooks.raw if str(tx_id).encode() in raw}) == 1
    await sim.post("/_sim/webhooks/send", body={"id": "forged"}, verif_hash="guess")
    assert (hooks.bodies[-1], hooks.hashes[-1]) == ({"id": "forged"}, "guess")


async def test_a_refund_whose_answer_is_lost_has_happened_all_the_same(sim: Simulator) -> None:
    tx_id = await sim.paid()
    path = f"/v3/transactions/{tx_id}/refund"
    faults = [
        {"match": "POST *refund", "times": 1, "drop_connection_before": True},
        {"match": "POST *refund", "times": 1, "drop_connection_after": True},
        {"match": "POST *refund", "times": 1, "http_status_after": 503},
    ]
    await sim.post("/_sim/faults", api=faults)
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            await sim.http.post(path, json={"amount": 100})
    outage = await sim.http.post(path, json={"amount": 100})
    assert (outage.status_code, outage.json()["status"]) == (503, "error")
    rows = (await sim.get("/v3/refunds"))["data"]
    assert len([row for row in rows if row["tx_id"] == tx_id]) == 2
    assert (await sim.get("/_sim/state"))["calls"]["POST /v3/transactions/{id}/refund"] >= 3


async def test_the_api_may_fail_lie_babble_or_dawdle(sim: Simulator) -> None:
    tx_id = await sim.paid()
    path = f"/v3/transactions/{tx_id}/verify"
    faults: list[dict[str, Any]] = [
        {"http_status": 429},
        {"malformed": True},
        {"lie": {"status": "failed", "amount": 1.5, "currency": "USD", "tx_ref": "other"}},
        {"not_found": True},
        {"latency_ms": 150},
    ]
    await sim.post("/_sim/faults", api=[{"times": 1, **fault} for fault in faults])
    assert (await sim.http.get(path)).status_code == 429
    with pytest.raises(json.JSONDecodeError):
        await sim.get(path)
    lie = (await sim.get(path))["data"]
    assert (lie["status"], lie["amount"], lie["currency"], lie["tx_ref"]) == ("failed", 1.5, "USD", "other")
    missing = await sim.http.get(path)
    assert (missing.status_code, missing.json()["data"]) == (400, None)
    slow = await sim.http.get(path)
    assert slow.elapsed.total_seconds() > 0.1
    assert slow.json()["data"]["status"] == "successful"
    assert (await sim.get("/_sim/state"))["faults"] == {"api": [], "webhooks": []}


async def test_killed_and_started_again_it_has_forgotten_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "state.sqlite3") as (simulator, receiver):
        await simulator.post("/_sim/config", retry_seconds=0.3)
        receiver.answers += [500, 500]
        paid = await simulator.paid()
        late_ref, _ = await simulator.link()
        [late] = (await simulator.pay(late_ref, "pay-late", delay_seconds=0.5))["transaction_ids"]
        await receiver.wait(1, about=of(paid))
        assert simulator.stop(signal.SIGKILL) == -signal.SIGKILL
        await simulator.start()
        receiver.answers.clear()
        await receiver.wait(2, about=of(paid))
        await receiver.wait(1, about=of(late))
        tx = (await simulator.get(f"/v3/transactions/{late}/verify"))["data"]
        assert tx["status"] == "successful"
        assert simulator.stop() == 0
