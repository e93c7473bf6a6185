"""Who may do what is data: this is the table once more, as a person reads it."""

from typing import get_args
from uuid import UUID

import pytest

from kiti.core.errors import NotAllowed
from kiti.flows.staff import require
from kiti.people.model import MAY, PERMISSIONS, PLATFORM_ROLES, Operator, Permission, Role, Staff

PEARL, LAKE = UUID(int=1), UUID(int=2)

# operator_staff, operator_finance, platform_finance, platform_admin
TABLE: dict[Permission, str] = {
    "tickets.verify": "x..x",
    "seats.block": "x..x",
    "bookings.see": "xxxx",
    "bookings.move": "x..x",
    "payments.see": ".xxx",
    "payments.review": "..xx",
    "refunds.see": ".xxx",
    "refunds.make": "..xx",
    "cash.take": "x..x",
    "settlements.see": ".xxx",
    "settlements.approve": "..xx",
    "staff.manage": "...x",
    "hooks.manage": ".x.x",
    "messages.resend": "x.xx",
}
ROLES: tuple[Role, ...] = get_args(Role)


def somebody(role: Role) -> Staff:
    operator = Operator(id=PEARL, code="pearl", name="Pearl Coaches", timezone="Africa/Kampala")
    return Staff(
        id=UUID(int=9),
        email="grace@kiti.example",
        name="Grace Auma",
        role=role,
        operator=None if role in PLATFORM_ROLES else operator,
    )


def test_the_table_names_every_permission_and_every_role() -> None:
    assert set(TABLE) == PERMISSIONS
    assert set(MAY) == set(ROLES)


@pytest.mark.parametrize("permission", sorted(PERMISSIONS))
@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_its_column_says_and_nothing_else(role: Role, permission: Permission) -> None:
    staff = somebody(role)
    allowed = TABLE[permission][ROLES.index(role)] == "x"
    assert staff.can(permission) is allowed
    if allowed:
        require(staff, permission)
        require(staff, permission, operator=PEARL)
    else:
        with pytest.raises(NotAllowed, match=permission):
            require(staff, permission)
        with pytest.raises(NotAllowed):
            require(staff, permission, operator=PEARL)


@pytest.mark.parametrize("role", ROLES)
def test_staff_of_an_operator_see_their_own_things_and_the_platform_sees_all(role: Role) -> None:
    staff = somebody(role)
    is_platform = role in PLATFORM_ROLES
    assert staff.sees(PEARL)
    assert staff.sees(LAKE) is is_platform
    assert staff.bound == (None if is_platform else PEARL)
    permission = next(permission for permission in MAY[role] if permission != "staff.manage")
    if not is_platform:
        with pytest.raises(NotAllowed, match="another operator"):
            require(staff, permission, operator=LAKE)
