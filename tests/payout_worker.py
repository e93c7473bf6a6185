"""`python -m tests.payout_worker DATABASE_URL BANK_PORT`: a pass over due payouts, which may be killed."""

import asyncio
import sys
from typing import Any

import msgspec

from kiti.app import open_house
from kiti.core.settings import load
from kiti.flows.upkeep import payouts
from tests.paying_bank import BankGateway


async def main(url: str, port: int) -> None:
    settings = load({"KITI_DEMO": "1", "DATABASE_URL": url, "FLUTTERWAVE_BASE_URL": "http://127.0.0.1:9/v3"})
    async with open_house(settings) as house:
        gateways: dict[str, Any] = {"bank": BankGateway(port)}
        await payouts(msgspec.structs.replace(house, gateways=gateways))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
