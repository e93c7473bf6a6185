"""The simulator in a process of its own, and the verbs with which tests make it misbehave."""

import os
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from tests import nursery
from tests.contract.drawer import Drawer
from tests.contract.gateways import PROVIDERS, Counter, Provider, Simulator
from tests.simulated import PATIENCE_SECONDS, START_TIMEOUT_SECONDS, free_port

from kiti.db import Database
from kiti.gateways.gateway import Gateway


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[Simulator]:
    """The simulator in a process of its own; nobody listens for its webhooks."""
    port = free_port()
    process = nursery.start(
        [
            *("kiti.simulator", "--port", str(port)),
            *("--webhook-url", "http://127.0.0.1:9/webhook"),
            *("--secret-key", Simulator.secret_key, "--webhook-hash", Simulator.webhook_hash),
            *("--stripe-secret-key", Simulator.stripe_secret_key),
            *("--stripe-webhook-secret", Simulator.stripe_webhook_secret),
            *("--v4-client-id", Simulator.v4_client_id, "--v4-client-secret", Simulator.v4_client_secret),
            *("--v4-webhook-secret", Simulator.v4_webhook_secret),
        ],
        os.environ,
    )
    url = f"http://127.0.0.1:{port}"
    _await_health(url, process=process)
    with httpx.Client(base_url=url, trust_env=False, verify=False) as client:
        yield Simulator(client)
    process.terminate()
    process.wait(timeout=PATIENCE_SECONDS)


@pytest.fixture
def simulator(running_simulator: Simulator) -> Iterator[Simulator]:
    """The simulator without faults, before and after."""
    running_simulator.be_good()
    yield running_simulator
    running_simulator.be_good()


@pytest.fixture(params=sorted(PROVIDERS))
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each gateway that Kiti knows."""
    return PROVIDERS[request.param]


@pytest.fixture
def books_url(provider: Provider, request: pytest.FixtureRequest) -> str:
    """A fresh database for a gateway that keeps its books in ours."""
    return str(request.getfixturevalue("fresh_url")) if provider.keeps_books else ""


@pytest.fixture
async def gateway(provider: Provider, simulator: Simulator, books_url: str) -> AsyncIterator[Gateway]:
    """Its adapter, talking to the simulator."""
    if isinstance(provider, Counter):
        database = Database(books_url, minimum=1, maximum=4)
        await database.open()
        provider.open(Drawer(database))
        yield provider.adapter(simulator)
        await database.close()
        return
    adapter = provider.adapter(simulator)
    yield adapter
    await adapter.close()


def _await_health(url: str, *, process: nursery.Process) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the simulator ended before it listened"
        try:
            httpx.get(f"{url}/_sim/health", trust_env=False, verify=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the simulator does not listen")
