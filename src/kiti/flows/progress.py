"""How far a long pass has come, for whoever watches: a command shows it, a worker does not ask."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_watcher: ContextVar[Callable[[int, int], None] | None] = ContextVar("kiti_progress", default=None)


def advance(*, processed: int = 0, failed: int = 0) -> None:
    """So many more are done, and so many could not be."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(processed, failed)


@contextmanager
def watched(watcher: Callable[[int, int], None]) -> Iterator[None]:
    """Let `watcher` know of each advance within, tasks that begin there included."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)
