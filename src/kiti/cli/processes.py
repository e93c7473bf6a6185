"""Child processes that do not outlive their parent, however it ends."""

import ctypes
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

STOP_TIMEOUT_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


class Child:
    """`python -m kiti <arguments>` as a process of its own."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "kiti", *arguments]
        self._environment = dict(environment)
        self._process = self._start()

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to end, wait, and insist."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own program
            self._command,
            env=self._environment,
            start_new_session=True,  # Ctrl-C goes to the parent, which stops its children in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one C call
        )


def stop_all(children: Sequence[Child]) -> None:
    """Last started, first stopped."""
    for child in reversed(children):
        child.stop()


def _die_with_parent() -> None:
    """Linux sends SIGTERM to this process when its parent ends, kill -9 included (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
