"""Passwords: argon2id (RFC 9106) by argon2-cffi with its defaults, off the event loop, a bounded number at once.

A hash takes 64 MiB and some tens of milliseconds of two to four cores. So a few threads do it, a bounded number of
callers waits for them, and everybody else hears at once that it is too much.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from kiti.core.errors import InvalidInput, Overloaded
from kiti.people.model import LONGEST_PASSWORD, SHORTEST_PASSWORD

T = TypeVar("T")

AT_ONCE = 2
MOST_WAITING = 64
RETRY_AFTER_SECONDS = 2

_argon2 = PasswordHasher()
_threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="password")
_waiting: set[object] = set()


def check_new(password: str) -> str:
    """A password that somebody may choose, as it is; raises InvalidInput."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidInput("password", f"A password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.")
    return password


@contextmanager
def turn() -> Iterator[None]:
    """One of the places of those who log in; raises Overloaded. Taken before an attempt is counted, not after."""
    if len(_waiting) >= MOST_WAITING:
        raise Overloaded("Very many people log in right now. Try again.", retry_after_seconds=RETRY_AFTER_SECONDS)
    mine = object()
    _waiting.add(mine)
    try:
        yield
    finally:
        _waiting.discard(mine)


async def hash_password(password: str) -> str:
    """The hash in PHC form."""
    return await _off_the_loop(partial(_argon2.hash, password))


async def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is the one of the hash; without a hash False, after the same time."""
    return await _off_the_loop(partial(_verify, password, password_hash))


def is_outdated(password_hash: str) -> bool:
    """Whether it was made with other parameters than a new one would be."""
    return _argon2.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str | None) -> bool:
    # Made before any comparison, so that the first one for nobody does not take longer than others.
    nobodys = _nobodys()
    try:
        _argon2.verify(password_hash or nobodys, password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


@cache
def _nobodys() -> str:
    """A hash to compare with where there is none."""
    return _argon2.hash(secrets.token_hex())


async def _off_the_loop(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_threads, work)
