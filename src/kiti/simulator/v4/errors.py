"""How v4 says no."""

from typing import Any, Final

from litestar import Response

from kiti.simulator.machine import GatewayRefusalError
from kiti.simulator.wire import ENCODER

TYPES: Final = {
    400: ("REQUEST_NOT_VALID", "10400"),
    401: ("UNAUTHORIZED", "10401"),
    403: ("FORBIDDEN", "10403"),
    404: ("RESOURCE_NOT_FOUND", "10404"),
    409: ("RESOURCE_CONFLICT", "10409"),
    422: ("UNPROCESSABLE", "10422"),
}
OTHERWISE: Final = ("INTERNAL_SERVER_ERROR", "10500")


def refusal(error: GatewayRefusalError) -> Response[bytes]:
    """Return the error envelope."""
    body = ENCODER.encode(envelope(error.http_status, error.message))
    return Response(body, status_code=error.http_status, media_type="application/json")


def envelope(http_status: int, message: str) -> dict[str, Any]:
    """Return the same as data."""
    kind, code = TYPES.get(http_status, OTHERWISE)
    return {"status": "failed", "error": {"type": kind, "code": code, "message": message, "validation_errors": []}}
