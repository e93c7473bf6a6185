"""Programs of Kiti as processes of their own that need not load Kiti first: a process that has done so forks them.

Loading Kiti takes a second of a processor, and the suite starts hundreds of servers, simulators and commands. The
nursery has imported everything once and read the certificates that programs trust; it has no thread, no loop and no
connection. For each order it forks a keeper, and the keeper forks the program and tells with what it ended. From there
on it is `python -m <module> <arguments>`: its own session, environment, files and signals, and it ends as an
interpreter does. Whoever orders it holds its line: a socket that says its number, then its end. All of them die with
whoever ordered them, however that ends.

Under coverage each program is started by itself, so that it is measured from its first line.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

# What programs import, so that they find it here. The names of `__main__` modules would make runpy complain.
PRELOADED = ("kiti.app", "kiti.gateways.stripe", "kiti.simulator")
ROOT = Path(__file__).parents[1]
ORDER_BYTES = 150_000
NUMBER_BYTES = 8
_PR_SET_PDEATHSIG = 1


class Process(Protocol):
    """What tests ask of a process; `subprocess.Popen` has it too."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def start(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
) -> Process:
    """`python -m <arguments>` in this environment; without an output its words go where those of the tests go."""
    if _is_measured():
        return start_by_itself(arguments, environment, stdin=stdin, stdout=stdout, stderr=stderr)
    with Path(os.devnull).open("rb") as nothing:
        files = [
            (stdin or nothing).fileno(),
            1 if stdout is None else stdout.fileno(),
            2 if stderr is None else stderr.fileno(),
        ]
        return _Forked(_nursery().order(list(arguments), dict(environment), files))


def start_by_itself(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
    stderr: BinaryIO | None = None,
) -> Process:
    """The same with an interpreter that starts from nothing, for tests that are about just that."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=dict(environment),
        stdin=stdin or subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one C call
    )


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: str = "",
    timeout_seconds: float = 60.0,
    by_itself: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m <arguments>` to its end; exit code and words. Raises TimeoutExpired."""
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        told.write(stdin.encode())
        told.seek(0)
        beginning = start_by_itself if by_itself else start
        process = beginning(arguments, environment, stdin=told, stdout=out, stderr=err)
        try:
            code = process.wait(timeout_seconds)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(arguments), code, out.read().decode(), err.read().decode())


# ---------------------------------------------------------------- with whoever orders


class _Forked:
    """A program that the nursery has forked. Its end comes over the line, once."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._lock = threading.Lock()
        self.returncode: int | None = None
        self.pid = self._hear()

    def poll(self) -> int | None:
        if self._lock.acquire(blocking=False):  # else another thread waits for it: it runs
            try:
                self._listen(0)
            finally:
                self._lock.release()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        with self._lock:
            self._listen(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _listen(self, timeout: float | None) -> None:
        if self.returncode is None:
            self._line.settimeout(timeout)
            with suppress(TimeoutError, BlockingIOError):
                self.returncode = self._hear()
                self._line.close()

    def _hear(self) -> int:
        said = self._line.recv(NUMBER_BYTES)
        assert len(said) == NUMBER_BYTES, "the nursery has ended, or its keeper"
        return int.from_bytes(said, signed=True)


class _Nursery:
    """The process that forks, and the socket on which it takes orders until that is closed."""

    def __init__(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.nursery", str(theirs.fileno()), *PRELOADED],
                cwd=ROOT,
                env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # or libraries would take the terminal for theirs
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the tests, which then close the socket
            )

    def order(self, arguments: list[str], environment: dict[str, str], files: list[int]) -> socket.socket:
        """Send an order; the line of the program that it makes."""
        words = json.dumps({"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}).encode()
        assert len(words) < ORDER_BYTES
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._orders, [words], [theirs.fileno(), *files])
        return ours

    def close(self) -> None:
        self._orders.close()
        self._process.wait()


@cache
def _nursery() -> _Nursery:
    nursery = _Nursery()
    atexit.register(nursery.close)
    return nursery


def _is_measured() -> bool:
    return any(name.startswith("COVERAGE_PROCESS") for name in os.environ)


# ---------------------------------------------------------------- in the nursery


def _serve(orders: socket.socket) -> None:
    """Fork for each order until the other side has gone. Returns in the program's own process, and at the end."""
    while True:
        words, files, _, _ = socket.recv_fds(orders, ORDER_BYTES, 4)
        if not words:
            sys.exit()
        if os.fork() == 0:
            orders.close()
            _keep(json.loads(words), *files)
            return
        for file in files:
            os.close(file)
        _bury()


def _keep(order: dict[str, object], line: int, *files: int) -> None:
    """Fork the program, say its number and its end; returns only as the program."""
    _die_with_parent()
    program = os.fork()
    if program == 0:
        os.close(line)
        _become(order, files)
        return
    for file in (0, 1, 2, *files):
        os.close(file)
    _say(line, program)
    _, status = os.waitpid(program, 0)
    _say(line, os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(order: dict[str, object], files: Sequence[int]) -> None:
    """Everything in which a new process differs from this one."""
    _die_with_parent()
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    arguments, environment = order["arguments"], order["environment"]
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(str(order["folder"]))
    sys.path[0] = str(order["folder"])
    sys.argv = arguments


def _say(line: int, number: int) -> None:
    # Whoever ordered may have gone; then nobody wants to know.
    with socket.socket(fileno=line) as talk:
        try:
            talk.sendall(number.to_bytes(NUMBER_BYTES, signed=True))
        except BrokenPipeError:
            return
        finally:
            talk.detach()


def _bury() -> None:
    """Let go of keepers that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _die_with_parent() -> None:
    """Linux ends this process when its parent ends, kill -9 included (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    import importlib

    for _module in sys.argv[2:]:
        importlib.import_module(_module)
    from kiti.gateways.http import certificates

    for _of_environment in (True, False):
        certificates(of_environment=_of_environment)
    gc.collect()
    # What is loaded stays: a collection in a child should not touch, and so copy, its memory.
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
