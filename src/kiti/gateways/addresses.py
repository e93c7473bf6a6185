"""Which addresses of others we call: public ones, and no URL that two programs may read in two ways. Pure.

A URL that somebody typed is taken apart here once; whoever calls it uses the parts and never the text. Names are
resolved by the caller, which asks `objection_to` about every address it was given and connects to exactly one of these.
"""

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

import msgspec

from kiti.core.errors import InvalidInput

LONGEST_URL = 2000
PORTS = {443, 8443}
PLAIN_PORTS = {80, *PORTS}
DEFAULT_PORTS: dict[str, int] = {"https": 443, "http": 80}

# RFC 3986 without userinfo and fragment, in printable ASCII without what programs read differently: \ " < > ^ ` { | }.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]/?#@:]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[!$%&'()*+,\-./0-9:;=@A-Z_a-z~\[\]]*)?(?:\?[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]*)?)"
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# A last label that begins with a digit is how 2130706433, 0x7f.1 and 127.1 are taken for IPv4 addresses.
_LAST_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")
_LONGEST_HOST = 253
_LARGEST_PORT = 65535

# https://www.iana.org/assignments/iana-ipv4-special-registry: all that is not for everybody, and multicast.
_NOT_PUBLIC_4 = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
# Of IPv6 only what is given out to be reached (RFC 4291), without what the registry takes out of it again, and
# without tunnels whose other end is an IPv4 address: 6to4 (2002::/16) and Teredo (in 2001::/23).
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)
# RFC 6052: an IPv4 address behind NAT64 is in the last 32 bits, and is what will be reached.
_NAT64 = IPv6Network("64:ff9b::/96")
# RFC 5214: so is one behind ISATAP, after these 32 bits.
_ISATAP = {0x00005EFE, 0x02005EFE}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A URL taken apart. `path` is what is asked for, with its query; `host` has no brackets."""

    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """What the header Host says (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def target_of(url: str, *, is_plain_allowed: bool = False, is_private_allowed: bool = False) -> Target:
    """The parts of a URL that may be called; raises InvalidInput.

    `is_plain_allowed`: also over plain HTTP. `is_private_allowed`: any port, and a host that is an address.
    """
    if len(url) > LONGEST_URL:
        raise InvalidInput("url", f"The address has more than {LONGEST_URL} characters.")
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidInput("url", "Write an address such as https://shop.example.com/kiti: no user, no fragment.")
    scheme: Literal["http", "https"] = "https" if match["scheme"] == "https" else "http"
    if scheme == "http" and not (is_plain_allowed or is_private_allowed):
        raise InvalidInput("url", "The address has to begin with https://.")
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS[scheme]
    allowed = PORTS if scheme == "https" else PLAIN_PORTS
    if not (1 <= port <= _LARGEST_PORT if is_private_allowed else port in allowed):
        raise InvalidInput("url", f"Port {port} is not called; {', '.join(map(str, sorted(allowed)))} are.")
    host = _host(match["host"], is_private_allowed=is_private_allowed)
    path = match["path"]
    return Target(scheme=scheme, host=host, port=port, path=path if path.startswith("/") else f"/{path}")


def objection_to(address: str) -> str | None:
    """Why this IP address is not called; None for one that everybody may reach."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return f"{address!r} is no IP address"
    is_public = _is_public_4(ip) if isinstance(ip, IPv4Address) else _is_public_6(ip)
    return None if is_public else f"{address} is not a public address"


def _is_public_4(ip: IPv4Address) -> bool:
    return not any(ip in net for net in _NOT_PUBLIC_4)


def _is_public_6(ip: IPv6Address) -> bool:
    embedded = IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _NAT64:
        return _is_public_4(embedded)
    if (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP and not _is_public_4(embedded):
        return False
    return ip in _PUBLIC_6 and not any(ip in net for net in _NOT_PUBLIC_6)


def _host(typed: str, *, is_private_allowed: bool) -> str:
    host = typed.lower()
    if is_private_allowed and (address := _address(host.strip("[]"))):
        return address
    if is_private_allowed and host == "localhost":
        return host
    labels = host.split(".")
    is_name = (
        len(host) <= _LONGEST_HOST
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels[:-1])
        and _LAST_LABEL.fullmatch(labels[-1]) is not None
    )
    if not is_name:
        raise InvalidInput(
            "url", "Name a host such as shop.example.com, not an IP address; write ü and its like as xn--."
        )
    return host


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
