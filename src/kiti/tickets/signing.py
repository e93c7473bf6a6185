"""Ticket tokens: signed by us, checked by anybody who has the public key, also without a network. Pure.

A token is a JWS in compact form (RFC 7515): base64url(header) "." base64url(claims) "." base64url(signature).

    header     {"alg":"ES256","kid":"..."}; nothing else is allowed in it
    claims     t  ticket id            b  booking id          r  trip id     (UUIDs: 16 bytes in base64url)
               s  seat                 f  first stop's code   o  last stop's code
               d  departure from the first stop, Unix seconds
               n  initials of the passenger's name, three at most
    signature  ECDSA over P-256 and SHA-256, r and s as 32 bytes each (RFC 7518, section 3.4): what WebCrypto's
               verify({name: "ECDSA", hash: "SHA-256"}, ...) takes as it is

The claims name a journey, not a person, so a photographed code tells little. A `kid` is the beginning of the key's
thumbprint (RFC 7638). Keys are published as a JWK Set (RFC 7517), each importable by WebCrypto's importKey.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kiti.core.errors import KitiError

T = TypeVar("T")

LONGEST_TOKEN = 1024
_COORDINATE_BYTES = 32
_SIGNATURE_BYTES = 64
_UUID_BYTES = 16
_NONCE_BYTES = 12
_KID_LENGTH = 8
_INITIALS = 3
_KEY_LABEL = b"kiti ticket key"

PublicKeys = Mapping[str, ec.EllipticCurvePublicKey]


class Malformed(KitiError):
    """The text is no ticket token: cut off, mistyped, or some other QR code."""


class Forged(KitiError):
    """A token in the right form that no key of ours has signed."""


class SealedByAnotherSecret(KitiError):
    """The stored private key was encrypted under another secret than today's, or was altered."""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. `departs_at` is in Unix seconds."""

    ticket: UUID
    booking: UUID
    trip: UUID
    seat: str
    from_code: str
    to_code: str
    departs_at: int
    initials: str


class Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A public key as RFC 7517 and 7518 write it."""

    kty: Literal["EC"] = "EC"
    crv: Literal["P-256"] = "P-256"
    x: str
    y: str
    kid: str
    alg: Literal["ES256"] = "ES256"
    use: Literal["sig"] = "sig"


class SigningKey(msgspec.Struct, frozen=True):
    """A private key and its name."""

    kid: str
    private: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> ec.EllipticCurvePublicKey:
        """The half that is published."""
        return self.private.public_key()


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: str
    kid: str = ""


class _Wire(msgspec.Struct, kw_only=True):
    t: str
    b: str
    r: str
    s: str
    f: str
    o: str
    d: int
    n: str


def new_key() -> SigningKey:
    """A fresh P-256 key."""
    private = ec.generate_private_key(ec.SECP256R1())
    return SigningKey(jwk(private.public_key()).kid, private)


def sign(claims: Claims, *, key: SigningKey) -> str:
    """The token for these claims; some 320 ASCII characters."""
    header = msgspec.json.encode({"alg": "ES256", "kid": key.kid})
    wire = _Wire(
        t=_encode(claims.ticket.bytes),
        b=_encode(claims.booking.bytes),
        r=_encode(claims.trip.bytes),
        s=claims.seat,
        f=claims.from_code,
        o=claims.to_code,
        d=claims.departs_at,
        n=claims.initials,
    )
    signed = f"{_encode(header)}.{_encode(msgspec.json.encode(wire))}"
    r, s = decode_dss_signature(key.private.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
    return f"{signed}.{_encode(raw)}"


def verify(token: str, *, keys: PublicKeys) -> Claims:
    """The claims of a token that one of `keys` signed; raises Malformed or Forged.

    Nothing of the claims is looked at before the signature holds. Whether the ticket is still good is for the
    database to say.
    """
    parts = token.split(".")
    if len(parts) != 3 or len(token) > LONGEST_TOKEN:  # noqa: PLR2004 - the three parts of a JWS
        raise Malformed("This is not a ticket code.")
    head, body, tail = parts
    header = _decode_json(_decode(head), _Header)
    claims = _decode(body)
    raw = _decode(tail)
    if header.alg != "ES256":
        raise Forged("The ticket is not signed the way Kiti signs.")
    if len(raw) != _SIGNATURE_BYTES:
        raise Malformed("The ticket code is cut off or mistyped.")
    public = keys.get(header.kid)
    if public is None:
        raise Forged("The ticket is signed with a key that is not Kiti's.")
    r, s = (int.from_bytes(half, "big") for half in (raw[:_COORDINATE_BYTES], raw[_COORDINATE_BYTES:]))
    try:
        public.verify(encode_dss_signature(r, s), f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Forged("The ticket's signature does not hold.") from None
    return _claims(_decode_json(claims, _Wire))


def initials(name: str) -> str:
    """Amina Nakato Okello is "ANO"; three letters at most, none for an empty name."""
    return "".join(word[0].upper()[0] for word in name.split()[:_INITIALS])


def jwk(public: ec.EllipticCurvePublicKey) -> Jwk:
    """The key for publication, named by its thumbprint."""
    numbers = public.public_numbers()
    x = _encode(numbers.x.to_bytes(_COORDINATE_BYTES, "big"))
    y = _encode(numbers.y.to_bytes(_COORDINATE_BYTES, "big"))
    # RFC 7638: the required members in lexical order, no white space.
    thumbprint = hashlib.sha256(msgspec.json.encode({"crv": "P-256", "kty": "EC", "x": x, "y": y})).digest()
    return Jwk(x=x, y=y, kid=_encode(thumbprint)[:_KID_LENGTH])


def public_key(published: Jwk) -> ec.EllipticCurvePublicKey:
    """The key in a JWK; raises Malformed where it is no point of the curve."""
    x, y = (int.from_bytes(_decode(half), "big") for half in (published.x, published.y))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        raise Malformed("The key is not a point of the curve P-256.") from None


def jwks(keys: Iterable[ec.EllipticCurvePublicKey]) -> dict[str, list[Jwk]]:
    """The JWK Set that scanners fetch once and keep."""
    return {"keys": [jwk(public) for public in keys]}


def seal(key: SigningKey, *, secret: str) -> bytes:
    """The private key for storing: a random nonce, then AES-256-GCM over its PKCS #8 form, bound to its kid."""
    plain = key.private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(secret).encrypt(nonce, plain, key.kid.encode())


def unseal(sealed: bytes, *, kid: str, secret: str) -> SigningKey:
    """The stored key; raises SealedByAnotherSecret."""
    try:
        plain = _cipher(secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], kid.encode())
    except (InvalidTag, ValueError):
        raise SealedByAnotherSecret(f"The ticket key {kid} cannot be opened with today's JWT_SECRET.") from None
    private = serialization.load_der_private_key(plain, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey), "only P-256 keys are ever sealed"
    return SigningKey(kid, private)


def _cipher(secret: str) -> AESGCM:
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=_KEY_LABEL).derive(secret.encode())
    return AESGCM(derived)


def _claims(wire: _Wire) -> Claims:
    ticket, booking, trip = (_decode(text) for text in (wire.t, wire.b, wire.r))
    if any(len(raw) != _UUID_BYTES for raw in (ticket, booking, trip)):
        raise Malformed("The ticket code names no ticket.")
    return Claims(
        ticket=UUID(bytes=ticket),
        booking=UUID(bytes=booking),
        trip=UUID(bytes=trip),
        seat=wire.s,
        from_code=wire.f,
        to_code=wire.o,
        departs_at=wire.d,
        initials=wire.n,
    )


def _decode_json(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Malformed("The ticket code is cut off or mistyped.") from None


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Strict base64url without padding: one spelling for each value, so that no altered token passes."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("The ticket code is cut off or mistyped.") from None
    if _encode(raw) != text:
        raise Malformed("The ticket code is cut off or mistyped.")
    return raw
