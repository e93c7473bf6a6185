"""What became of handing a message to whoever delivers it: to a mail server, to an SMS provider."""

import msgspec


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """They have taken it over; `provider_id` is what they call it."""

    provider_id: str


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """They will never deliver it, however often they are asked."""

    reason: str


class NotNow(msgspec.Struct, frozen=True, kw_only=True):
    """It has certainly not been sent, and may be later: they were not reached, had no time, or are set up wrongly."""

    reason: str


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """It may be on its way or not: the answer was lost."""

    reason: str


Delivery = Accepted | Rejected | NotNow | Unknown
