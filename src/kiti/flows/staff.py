"""Staff accounts, and the one place that checks what somebody may do."""

from uuid import UUID

from kiti.audit import actions as audit
from kiti.audit.model import Event
from kiti.core import text
from kiti.core.errors import InvalidInput, NotAllowed
from kiti.core.ids import new_id
from kiti.db import Database, Transaction
from kiti.flows.passwords import check_new, hash_password
from kiti.people import actions as people
from kiti.people import reads as people_reads
from kiti.people.model import PLATFORM_ROLES, Account, NewStaff, Permission, Role, Staff


def require(staff: Staff, permission: Permission, *, operator: UUID | None = None) -> None:
    """Raise NotAllowed unless the role has the permission, and the operator's things are within reach.

    Without `operator` it is for a query that bounds itself to `staff.bound`, or before the operator is known.
    """
    if not staff.can(permission):
        raise NotAllowed(f"Your role does not include {permission}. Ask whoever gave you this account.")
    if operator is not None and not staff.sees(operator):
        raise NotAllowed("This belongs to another operator.")


async def add_staff(
    db: Database, *, email: str, name: str, role: Role, operator_code: str | None, password: str, actor: str
) -> UUID:
    """Make an account; its id. Raises EmailTaken, InvalidInput, NotFound."""
    address = address_of(email)
    called = text.clean(name, field="name")
    if not called:
        raise InvalidInput("name", "Say whom the account is for.")
    if (role in PLATFORM_ROLES) != (operator_code is None):
        wanted = "belongs to no operator" if role in PLATFORM_ROLES else "needs an operator"
        raise InvalidInput("operator", f"The role {role} {wanted}.")
    password_hash = await hash_password(check_new(password))

    async def work(tx: Transaction) -> UUID:
        found = None if operator_code is None else await people_reads.operator_by_code(tx, code=operator_code)
        operator = None if found is None else found.id
        made = NewStaff(
            id=new_id(), email=address, name=called, role=role, operator=operator, password_hash=password_hash
        )
        await people.add(tx, staff=made)
        await audit.record(tx, events=[_event(made.id, "staff.added", actor, {"role": role})])
        return made.id

    return await db.run(work)


async def list_staff(db: Database) -> list[Account]:
    """Up to 1000 accounts, those of the platform first."""
    async with db.reader() as reader:
        return await people_reads.accounts(reader)


async def disable_staff(db: Database, *, email: str, actor: str) -> None:
    """Take an account out of use: sessions end, tokens are worth nothing from now on. Raises NoSuchStaff."""
    address = address_of(email)

    async def work(tx: Transaction) -> None:
        disabled = await people.disable(tx, email=address)
        await audit.record(tx, events=[_event(disabled, "staff.disabled", actor)])

    await db.run(work)


async def change_password(db: Database, *, email: str, password: str, actor: str) -> None:
    """Set a new password: sessions end, older tokens are worth nothing, a lock is lifted. Raises NoSuchStaff."""
    address = address_of(email)
    password_hash = await hash_password(check_new(password))

    async def work(tx: Transaction) -> None:
        changed = await people.set_password(tx, email=address, password_hash=password_hash)
        await audit.record(tx, events=[_event(changed, "staff.password_changed", actor)])

    await db.run(work)


def address_of(typed: str) -> str:
    """An e-mail address as accounts have it; raises InvalidInput."""
    address = text.email(typed, field="email").lower()
    if not address:
        raise InvalidInput("email", "Give an e-mail address.")
    return address


def _event(staff: UUID, action: str, actor: str, detail: dict[str, str] | None = None) -> Event:
    return Event(subject=staff, actor=actor, action=action, detail=detail or {})
