"""Staff for tests: accounts made as `kiti staff add` makes them, and their tokens."""

from uuid import uuid4

import httpx
import msgspec

from kiti.db import Database
from kiti.flows.staff import add_staff
from kiti.people.model import Role
from tests.house import RunningHouse

PASSWORD = "correct horse battery"


class Employee(msgspec.Struct, frozen=True):
    """An account that is there."""

    email: str
    password: str


async def employ(
    db: Database,
    role: Role = "platform_admin",
    operator: str | None = None,
    *,
    name: str = "Grace Auma",
    password: str = PASSWORD,
) -> Employee:
    """Make an account with an address of its own; `operator` is a code."""
    email = f"{uuid4().hex[:12]}@kiti.example"
    await add_staff(db, email=email, name=name, role=role, operator_code=operator, password=password, actor="test")
    return Employee(email, password)


async def ask_to_log_in(house: RunningHouse, email: str, password: str) -> httpx.Response:
    """POST an address and a password; whatever the answer."""
    return await house.api.post("/api/auth/login", json={"email": email, "password": password})


async def bearer(house: RunningHouse, employee: Employee) -> dict[str, str]:
    """The header with which somebody calls."""
    answer = await ask_to_log_in(house, employee.email, employee.password)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


async def staff_headers(
    house: RunningHouse, role: Role = "platform_admin", operator: str | None = None
) -> dict[str, str]:
    """The header of somebody new."""
    return await bearer(house, await employ(house.box.db, role, operator))
