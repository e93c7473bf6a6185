"""The simulator's moving parts, held together: configuration, memory, faults, two bells."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from kiti.simulator.faults import Faults
from kiti.simulator.store import Store


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What may change while the simulator runs, through `POST /_sim/config`.

    `fee_bearer = customer` adds the fee to `charged_amount`. An outcome of `stuck` never leaves
    its first state. `not_found_http_status` is what an unknown transaction answers: Flutterwave
    has been seen with 200 and with 400. Of v4: without a client id nobody gets a token, and
    `v4_next_action` is what the buyer of a direct charge is told to do (payment_instruction,
    redirect_url, requires_otp …).
    """

    webhook_url: str
    webhook_hash: str
    secret_key: str
    retry_seconds: float = 1800.0
    max_retries: int = 3
    webhook_timeout_seconds: float = 60.0
    fee_bearer: Literal["merchant", "customer"] = "merchant"
    pay_late_seconds: float = 30.0
    refund_delay_seconds: float = 0.5
    refund_outcome: Literal["paid", "failed", "stuck"] = "paid"
    transfer_delay_seconds: float = 0.5
    transfer_outcome: Literal["successful", "failed", "stuck"] = "successful"
    not_found_http_status: int = 400
    public_url: str | None = None
    stripe_webhook_url: str = ""
    stripe_webhook_secret: str = ""
    stripe_secret_key: str = ""
    v4_webhook_url: str = ""
    v4_client_id: str = ""
    v4_client_secret: str = ""
    v4_webhook_secret: str = ""
    v4_token_seconds: float = 600.0
    v4_next_action: str = "payment_instruction"


class GatewayRefusalError(Exception):
    """The gateway says no; `message` and `http_status` go into the answer."""

    def __init__(self, message: str, *, http_status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.http_status = http_status


@dataclass(slots=True)
class Machine:
    """One running simulator. Everything happens on one event loop, so a call is atomic."""

    config: Config
    store: Store
    faults: Faults = field(default_factory=Faults)
    tokens: dict[str, float] = field(default_factory=dict)
    post_bell: asyncio.Event = field(default_factory=asyncio.Event)
    timer_bell: asyncio.Event = field(default_factory=asyncio.Event)


async def wait_for_bell(bell: asyncio.Event, *, until: float | None) -> None:
    """Sleep until the bell rings or the wall clock reaches `until` (epoch seconds)."""
    timeout_seconds = None if until is None else max(0.0, until - time.time())
    try:
        async with asyncio.timeout(timeout_seconds):
            await bell.wait()
    except TimeoutError:
        return
    bell.clear()
