"""Staff who call from programs: a short token for a password."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, Response, get, post

from kiti.api.access import staff_of
from kiti.api.wire import Shape
from kiti.flows.house import House
from kiti.flows.sign_in import check_password, issue_token
from kiti.people.model import MAY, Permission, Staff

RoleName = Literal["OPERATOR_STAFF", "OPERATOR_FINANCE", "PLATFORM_FINANCE", "PLATFORM_ADMIN"]
NO_STORE = {"Cache-Control": "no-store"}
STAFF_ONLY = ({"staff": list[str]()},)


class LoginBody(Shape, frozen=True):
    """An account that `kiti staff add` made."""

    email: Annotated[str, msgspec.Meta(min_length=1, max_length=254)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class OperatorShape(Shape, frozen=True):
    """For whom somebody works."""

    code: str
    name: str


class StaffShape(Shape, frozen=True):
    """Somebody with an account; `operator` null: staff of the platform, who see every operator."""

    name: str
    email: str
    role: RoleName
    operator: OperatorShape | None
    permissions: list[Permission]


class LoginShape(Shape, frozen=True):
    """Send `token` as `Authorization: Bearer <token>` until `expiresAt`."""

    token: str
    expires_at: datetime
    staff: StaffShape


class Auth(Controller):
    """`/api/auth`."""

    path = "/api/auth"
    tags = ("Staff",)

    @post("/login", summary="A token for a password", status_code=200)
    async def login(self, house: House, data: LoginBody) -> Response[LoginShape]:
        """Good for 15 minutes. After five wrong passwords an account rests, for longer each time."""
        staff = await check_password(house, email=data.email, password=data.password)
        token = await issue_token(house, staff=staff)
        shape = LoginShape(token=token.text, expires_at=token.expires_at, staff=_told(staff))
        return Response(shape, headers=NO_STORE)

    @get("/me", summary="Whose token this is", security=STAFF_ONLY)
    async def me(self, house: House, request: Request[Any, Any, Any]) -> Response[StaffShape]:
        """The account as it stands now, with what its role may do."""
        return Response(_told(await staff_of(request, house)), headers=NO_STORE)


def _told(staff: Staff) -> StaffShape:
    operator = staff.operator
    return StaffShape(
        name=staff.name,
        email=staff.email,
        role=staff.role.upper(),  # type: ignore[arg-type] # the roles in capitals
        operator=None if operator is None else OperatorShape(code=operator.code, name=operator.name),
        permissions=sorted(MAY[staff.role]),
    )
