"""Encryption of small secrets that are stored: AES-256-GCM under a key derived from JWT_SECRET.

`label` keeps what is encrypted for one purpose from another's, and `bound_to` one row's from another row's: what was
copied to another row does not open there.
"""

import os
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kiti.core.errors import KitiError

KEY_BYTES = 32
NONCE_BYTES = 12


class EncryptedOtherwise(KitiError):
    """It was encrypted under another secret than today's, for something else, or was altered."""


def encrypt(plain: bytes, *, label: str, bound_to: bytes, secret: str) -> bytes:
    """A random nonce, then the ciphertext with its tag."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _cipher(label, secret).encrypt(nonce, plain, bound_to)


def decrypt(sealed: bytes, *, label: str, bound_to: bytes, secret: str) -> bytes:
    """What was encrypted; raises EncryptedOtherwise."""
    try:
        return _cipher(label, secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        raise EncryptedOtherwise(f"A stored {label} cannot be opened with today's JWT_SECRET.") from None


@cache
def _cipher(label: str, secret: str) -> AESGCM:
    info = f"kiti {label}".encode()
    return AESGCM(HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret.encode()))
