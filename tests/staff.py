"""Staff for tests: accounts as `kiti staff add` makes them, and their tokens.

Hashing or comparing a password costs a processor some tenths of a second, on purpose, and the suite keeps production's
parameters. So it is done where logging in is what is tested: all accounts with the same password share one hash, and
`staff_headers` signs a token as `flows.sign_in` does instead of asking for one.
"""

from uuid import UUID, uuid4

import httpx
import jwt
import msgspec

from kiti.core.ids import new_id
from kiti.db import Database, Transaction
from kiti.flows.passwords import hash_password
from kiti.flows.sign_in import ALGORITHM, AUDIENCE, ISSUER
from kiti.people import actions as people
from kiti.people import reads as people_reads
from kiti.people.model import TOKEN_SECONDS, NewStaff, Role
from tests.house import RunningHouse

PASSWORD = "correct horse battery"

_hashes: dict[str, str] = {}


class Employee(msgspec.Struct, frozen=True):
    """An account that is there."""

    id: UUID
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
    if password not in _hashes:
        _hashes[password] = await hash_password(password)
    made = Employee(new_id(), f"{uuid4().hex[:12]}@kiti.example", password)

    async def work(tx: Transaction) -> None:
        employer = None if operator is None else await people_reads.operator_by_code(tx, code=operator)
        staff = NewStaff(
            id=made.id,
            email=made.email,
            name=name,
            role=role,
            operator=None if employer is None else employer.id,
            password_hash=_hashes[password],
        )
        await people.add(tx, staff=staff)

    await db.run(work)
    return made


async def ask_to_log_in(house: RunningHouse, email: str, password: str) -> httpx.Response:
    """POST an address and a password; whatever the answer."""
    return await house.api.post("/api/auth/login", json={"email": email, "password": password})


async def bearer(house: RunningHouse, employee: Employee) -> dict[str, str]:
    """The header with which somebody calls."""
    issued = int((await house.box.value("SELECT kiti_now()")).timestamp())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(employee.id), "iat": issued, "exp": issued + TOKEN_SECONDS}
    token = jwt.encode(claims, house.environment["JWT_SECRET"], algorithm=ALGORITHM)
    return {"authorization": f"Bearer {token}"}


async def staff_headers(
    house: RunningHouse, role: Role = "platform_admin", operator: str | None = None
) -> dict[str, str]:
    """The header of somebody new."""
    return await bearer(house, await employ(house.box.db, role, operator))
