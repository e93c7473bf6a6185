"""`kiti demo`: everything in one process tree, with a simulated gateway. `kiti simulator`: the gateway alone."""

import os
import signal
import socket
import time
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.panel import Panel

import kiti
from kiti.cli.processes import Child, stop_all
from kiti.cli.serve import check_port_free, database, seed
from kiti.core.errors import KitiError
from kiti.core.settings import Settings, load
from kiti.flows.seed_demo import DEMO_PASSWORD, DEMO_STAFF

console = Console(soft_wrap=True)
START_TIMEOUT_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.5


class DemoStopped(KitiError):
    """A part of the demo ended by itself; its last words are above."""


@click.command()
@click.option("--reload", is_flag=True, help="Restart the server when a source file changes.")
def demo(reload: bool) -> None:  # noqa: FBT001 - click's way
    """Run the whole product: embedded PostgreSQL, demo network, gateway simulator, server with worker."""
    os.environ["KITI_DEMO"] = "1"
    settings = load()
    check_port_free(settings.host, settings.port)
    signal.signal(signal.SIGTERM, _interrupt)
    children: list[Child] = []
    try:
        with console.status("Starting PostgreSQL"), database(settings) as ready:
            _seed(ready)
            children += _start(ready)
            _wait_until_ready(ready, children)
            _say_where_to_click(ready)
            _watch(children, reload=reload)
    except KeyboardInterrupt:
        console.print("Stopping.")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), required=True)
@click.option(
    "--webhook-url",
    required=True,
    help="<kiti>/api/payments/webhook/flutterwave; others' go beside it.",
)
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="Keep transactions in this file.")
@click.option("--retry-seconds", type=float, default=1800.0, show_default=True, help="Between webhook deliveries.")
def simulator(host: str, port: int, webhook_url: str, state: Path | None, retry_seconds: float) -> None:
    """Speak Flutterwave v3 and v4 and Stripe over HTTP, with buttons instead of banks."""
    # No server needs these in memory.
    from kiti.simulator import run  # noqa: PLC0415
    from kiti.simulator.machine import Config  # noqa: PLC0415

    here = {"FLUTTERWAVE_V4_BASE_URL": f"http://{host}:{port}/v4"}
    settings = load({**here, **os.environ, "KITI_DEMO": "1"})
    check_port_free(host, port)
    v4 = settings.flutterwave_v4
    assert v4 is not None, "the demo brings its keys, and the address is given"
    config = Config(
        webhook_url=webhook_url,
        secret_key=settings.flutterwave_secret_key,
        webhook_hash=settings.flutterwave_webhook_hash,
        stripe_secret_key=settings.stripe_secret_key,
        stripe_webhook_secret=settings.stripe_webhook_secret,
        retry_seconds=retry_seconds,
        v4_client_id=v4.client_id,
        v4_client_secret=v4.client_secret,
        v4_webhook_secret=v4.webhook_secret,
    )
    run(config, host=host, port=port, state=state)


def _seed(settings: Settings) -> None:
    context = click.Context(seed)
    os.environ["DATABASE_URL"] = settings.database_url
    os.environ["KITI_DEMO"] = "1"
    context.invoke(seed, days=30)


def _start(settings: Settings) -> list[Child]:
    """The simulator and the server, each a process of its own; they end when this one does."""
    port = _free_port(settings.port + 1)
    gateway = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "KITI_DEMO": "1",
        "DATABASE_URL": settings.database_url,
        "FLUTTERWAVE_BASE_URL": f"{gateway}/v3",
        "STRIPE_API_BASE": gateway,
        "FLUTTERWAVE_V4_BASE_URL": f"{gateway}/v4",
        "FLUTTERWAVE_V4_TOKEN_URL": f"{gateway}/idp/realms/flutterwave/protocol/openid-connect/token",
        "KITI_HOST": settings.host,
        "KITI_PORT": str(settings.port),
    }
    state = settings.data_dir / "simulator.sqlite"
    simulated = [
        "simulator",
        *("--port", str(port)),
        *("--webhook-url", f"http://127.0.0.1:{settings.port}/api/payments/webhook/flutterwave"),
        *("--state", str(state)),
        *("--retry-seconds", "10"),
    ]
    return [
        Child("simulator", simulated, environment),
        Child("server", ["serve"], environment),
    ]


def _free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise DemoStopped(f"No free port from {first} on. Set KITI_PORT to another one.")


def _wait_until_ready(settings: Settings, children: list[Child]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    url = f"http://{settings.host}:{settings.port}/readyz"
    while time.monotonic() < deadline:
        _check_alive(children)
        try:
            if httpx.get(url, timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.2)
    raise DemoStopped(f"{url} was not ready after {START_TIMEOUT_SECONDS:.0f} seconds.")


def _say_where_to_click(settings: Settings) -> None:
    base = settings.base_url
    console.print(
        Panel(
            f"[bold]Buy a ticket:[/bold]   {base}/\n"
            f"[bold]Pay:[/bold]            the payment page has buttons: pay, decline, pay late, pay twice ...\n"
            f"[bold]Find it again:[/bold]  {base}/find\n"
            f"[bold]Office:[/bold]         {base}/office\n"
            f"                {DEMO_STAFF[0][0]} or {DEMO_STAFF[2][0]},\n"
            f"                password {DEMO_PASSWORD}\n"
            f"[bold]API:[/bold]            {base}/docs  and  {base}/openapi.json\n\n"
            f"Data lies in {settings.data_dir}. Ctrl-C stops everything; `make demo` goes on where you left.",
            title="Kiti",
            border_style="green",
        )
    )


def _watch(children: list[Child], *, reload: bool) -> None:
    stamp = _newest_source()
    try:
        while True:
            time.sleep(LOOK_AGAIN_SECONDS)
            _check_alive(children)
            if reload and (now := _newest_source()) != stamp:
                stamp = now
                console.print("A source file changed; restarting the server.")
                children[-1].restart()
    finally:
        stop_all(children)


def _check_alive(children: list[Child]) -> None:
    for child in children:
        if child.exit_code is not None:
            stop_all(children)
            raise DemoStopped(f"The {child.name} ended with exit code {child.exit_code}.")


def _newest_source() -> float:
    root = Path(kiti.__file__).parent
    return max(file.stat().st_mtime for file in root.rglob("*") if file.suffix in {".py", ".sql", ".html", ".css"})


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
