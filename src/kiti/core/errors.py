"""The root of every error that Kiti raises on purpose.

An error is a fact with a sentence for a person; it knows nothing of HTTP. Each is named beside the function
that raises it; `kiti.api.problems` holds the one table that maps them to problem+json.
"""


class KitiError(Exception):
    """Something that a caller can understand and act on. `str(error)` says what happened and what to do."""


class InvalidInput(KitiError):
    """A value that a caller sent cannot be used; `field` names it as the caller spelt it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class NotFound(KitiError):
    """The thing that a caller named does not exist, or is not theirs to see."""


class NotAuthenticated(KitiError):
    """The credentials are missing or wrong."""


class NotAllowed(KitiError):
    """The credentials are good, but not for this."""


class Overloaded(KitiError):
    """A bounded queue is full; try again after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
