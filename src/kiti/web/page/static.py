"""Static files: kept in memory, addressed by their content, so a browser asks for each version once."""

import gzip
import hashlib
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from litestar import Request, Response, get

from kiti.core.errors import NotFound

FILES = {
    "kiti.css": "text/css; charset=utf-8",
    "kiti.js": "text/javascript; charset=utf-8",
    "office.css": "text/css; charset=utf-8",
    "offline.js": "text/javascript; charset=utf-8",
    "reference.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "vendor/htmx-4.0.1.min.js": "text/javascript; charset=utf-8",
}
IMMUTABLE = "public, max-age=31536000, immutable"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is sent."""

    body: bytes
    packed: bytes
    media_type: str
    digest: str


def address(name: str) -> str:
    """Where a static file is found: /static/<digest>/<name>."""
    return f"/static/{_file(name).digest}/{name}"


@get("/static/{digest:str}/{name:path}", include_in_schema=False, sync_to_thread=False)
def static_file(request: Request[Any, Any, Any], digest: str, name: str) -> Response[bytes]:
    """A static file. Under an old digest it is the present one, kept by nobody."""
    wanted = name.lstrip("/")
    if wanted not in FILES:
        raise NotFound("There is no such file.")
    file = _file(wanted)
    headers = {
        "Cache-Control": IMMUTABLE if digest == file.digest else "no-cache",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, media_type=file.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(file.body, media_type=file.media_type, headers=headers)


@get("/offline.js", include_in_schema=False, sync_to_thread=False)
def offline_worker() -> Response[bytes]:
    """The service worker, at the root because a worker only sees what lies below its own address."""
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(_file("offline.js").body, media_type=FILES["offline.js"], headers=headers)


@cache
def _file(name: str) -> File:
    body = resources.files("kiti.web").joinpath(f"static/{name}").read_bytes()
    return File(
        body=body,
        packed=gzip.compress(body, 9, mtime=0),
        media_type=FILES[name],
        digest=hashlib.sha256(body).hexdigest()[:12],
    )
