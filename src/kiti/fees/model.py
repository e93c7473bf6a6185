"""The parts of what a booking costs. Pure."""

from typing import Literal
from uuid import UUID

import msgspec

Kind = Literal["tax", "platform_fee", "gateway_fee", "commission"]
Bearer = Literal["traveller", "operator", "platform"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Minor units of one kind for the seats of one operator within a booking.

    What the traveller bears is paid on top of the fares. What the operator bears comes out of their fares. A tax that
    the operator bears is included in the fare and stays with the operator, who owes it to the state.
    """

    booking_id: UUID
    operator_id: UUID
    kind: Kind
    borne_by: Bearer
    amount: int
