"""The whole way of a sale: reserve, pay at the simulated gateway, hold the ticket; and webhooks on their own."""

import asyncio
import time
from statistics import median
from typing import Any

import httpx
import psycopg
from bench.report import Finding, Options, at_most, noted, say
from bench.stage import BenchFailed, Network, Server, Stage, clear_sales, free_port, trip_id, value

from kiti.core.settings import DEMO_DEFAULTS
from kiti.gateways.flutterwave import Flutterwave

NETWORK = Network()
CUSTOMERS = 16
PATIENCE_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.02
CALLS = 20_000
FORGERIES = 500
WEBHOOK = "/api/payments/webhook/flutterwave"
DELIVERY = b'{"event":"charge.completed","data":{"id":1,"tx_ref":"x","status":"successful","amount":30000}}'


def whole_sale(stage: Stage, options: Options) -> list[Finding]:
    """16 customers, one sale after the other, the worker in the server's process; against reserving alone."""
    url = stage.database("sale", NETWORK)
    rates, alone, waits = [], [], []
    gateway_port = free_port()
    gateway = {"FLUTTERWAVE_BASE_URL": f"http://127.0.0.1:{gateway_port}/v3"}
    with stage.kiti(url, with_worker=True, **gateway) as server:
        arguments = ["-m", "kiti.simulator", "--port", str(gateway_port), "--webhook-url", server.url + WEBHOOK]
        with stage.program("simulator", arguments, port=gateway_port, ready="/_sim/health") as simulator:
            for number in range(1, options.rounds + 1):
                clear_sales(url, server)
                took = asyncio.run(_sell(server, simulator, options.seconds))
                rates.append(len(took) / options.seconds)
                waits.append(median(took) * 1000)
                clear_sales(url, server)
                alone.append(len(asyncio.run(_sell(server, None, options.seconds))) / options.seconds)
                say(
                    f"round {number}: {rates[-1]:.1f} sales/s, {waits[-1]:.0f} ms each;"
                    f" the same customers only reserve {alone[-1]:.1f}/s, {rates[-1] / alone[-1]:.2f} times",
                    depth=1,
                )
    ratio = median(whole / part for whole, part in zip(rates, alone, strict=True))
    return [
        noted("reserve → pay → ticket, 16 customers", median(rates), unit="/s"),
        noted("reserve → pay → ticket ÷ reserve alone, same client", ratio),
        noted("reserve → pay → ticket: median duration", median(waits), unit="ms"),
    ]


def webhooks(stage: Stage, options: Options) -> list[Finding]:
    """What it costs to tell a true webhook from a forged one, and that a forged one reaches no database."""
    gateway = Flutterwave(
        base_url=f"http://127.0.0.1:{free_port()}/v3",
        secret_key=DEMO_DEFAULTS["FLUTTERWAVE_SECRET_KEY"],
        webhook_hash=DEMO_DEFAULTS["FLUTTERWAVE_WEBHOOK_HASH"],
    )
    costs: dict[str, list[float]] = {"valid": [], "forged": []}
    signed = {"valid": DEMO_DEFAULTS["FLUTTERWAVE_WEBHOOK_HASH"], "forged": "f" * 32}
    for _ in range(options.rounds):
        for kind, sent in signed.items():
            began = time.process_time()
            for _ in range(CALLS):
                gateway.is_authentic({"verif-hash": sent}, DELIVERY)
            costs[kind].append((time.process_time() - began) / CALLS * 1e6)
    url = stage.database("webhooks", Network(routes=1, departures=1, days=1))
    with stage.kiti(url) as server:
        touched = _transactions_of_forgeries(server, url)
    return [
        *(at_most(f"verifying a {kind} webhook", median(costs[kind]), 50, unit="µs of CPU") for kind in costs),
        at_most(f"transactions that {FORGERIES} forged webhooks caused", touched, 0),
    ]


async def _sell(server: Server, simulator: Server | None, seconds: float) -> list[float]:
    """How long each sale took; without a simulator it ends with the reservation."""
    took: list[float] = []
    until = time.perf_counter() + seconds
    numbers = iter(range(NETWORK.trips * len(NETWORK.seats)))

    async def customer(shop: httpx.AsyncClient, bank: httpx.AsyncClient | None) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            number = next(numbers)
            body = {
                "tripId": trip_id(number % NETWORK.trips + 1),
                "seatNumbers": [NETWORK.seats[number // NETWORK.trips]],
                "contact": {"email": "grace@example.com", "phone": "+256772123456", "name": "Grace Achieng"},
            }
            booking = _good(await shop.post("/api/bookings/reserve", json=body))
            if bank is not None:
                await _pay(shop, bank, booking)
            took.append(time.perf_counter() - began)

    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_SECONDS) as shop:
        if simulator is None:
            await asyncio.gather(*(customer(shop, None) for _ in range(CUSTOMERS)))
        else:
            async with httpx.AsyncClient(base_url=simulator.url, timeout=PATIENCE_SECONDS) as bank:
                await asyncio.gather(*(customer(shop, bank) for _ in range(CUSTOMERS)))
    return took


async def _pay(shop: httpx.AsyncClient, bank: httpx.AsyncClient, booking: dict[str, Any]) -> None:
    """Pay, wait for the confirmation that the gateway's webhook brings, fetch the ticket."""
    holder = {"authorization": f"Hold {booking['holdToken']}"}
    order = {"bookingId": booking["bookingId"], "paymentMethod": "CARD"}
    payment = _good(await shop.post("/api/payments/initiate", json=order, headers=holder))
    _good(await bank.post("/_sim/pay", json={"tx_ref": payment["reference"], "action": "pay"}))
    deadline = time.perf_counter() + PATIENCE_SECONDS
    path = f"/api/bookings/{booking['bookingId']}"
    while _good(await shop.get(path, headers=holder))["status"] != "CONFIRMED":
        if time.perf_counter() > deadline:
            raise BenchFailed("A payment did not become a confirmed booking in time.")
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
    if not _good(await shop.get(f"{path}/tickets", headers=holder))["tickets"]:
        raise BenchFailed("A confirmed booking has no ticket.")


def _good(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        raise BenchFailed(f"{answer.request.url} answered {answer.status_code}: {answer.text}")
    found: dict[str, Any] = answer.json()
    return found


def _transactions_of_forgeries(server: Server, url: str) -> int:
    """Read from another database, so that looking does not count."""
    elsewhere = psycopg.conninfo.make_conninfo(url, dbname="postgres")
    counted = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'webhooks'"

    def send(secret: str, times: int, expected: int) -> None:
        with httpx.Client(base_url=server.url) as client:
            for _ in range(times):
                answer = client.post(WEBHOOK, content=DELIVERY, headers={"verif-hash": secret})
                if answer.status_code != expected:
                    raise BenchFailed(f"A webhook was answered {answer.status_code}, not {expected}.")

    def settled() -> int:
        """PostgreSQL's processes hand in their counts with a delay, and autovacuum may pass by."""
        before, count = -1, int(value(elsewhere, counted))
        while count != before:
            time.sleep(2.0)
            before, count = count, int(value(elsewhere, counted))
        return count

    send("f" * 32, 10, httpx.codes.UNAUTHORIZED)
    before = settled()
    send("f" * 32, FORGERIES, httpx.codes.UNAUTHORIZED)
    after = settled()
    send(DEMO_DEFAULTS["FLUTTERWAVE_WEBHOOK_HASH"], 1, httpx.codes.OK)
    if settled() == after:
        raise BenchFailed("Even a true webhook caused no transaction: the counter does not count.")
    return after - before
