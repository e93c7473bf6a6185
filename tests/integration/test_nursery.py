"""Programs from the nursery are as those that start by themselves, and end with whoever ordered them."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tests import nursery
from tests.house import until
from tests.simulated import free_port

ROOT = Path(__file__).parents[2]
# A server of the standard library, so that this nursery need not load Kiti.
ORDERS_AND_WAITS = """
import os, sys
from tests import nursery
nursery.PRELOADED = ()
process = nursery.start(["http.server", "--bind", "127.0.0.1", sys.argv[1]], os.environ)
print(process.pid, flush=True)
process.wait()
"""


def test_a_program_says_the_same_and_ends_the_same_as_one_that_starts_by_itself() -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    forked = nursery.run(["kiti", "sell-everything"], environment)
    by_itself = nursery.run(["kiti", "sell-everything"], environment, by_itself=True)
    assert (forked.returncode, forked.stdout, forked.stderr) == (2, "", by_itself.stderr)
    assert by_itself.returncode == 2


def test_what_is_typed_is_read_and_nothing_else_of_ours_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text("import os, sys; print(sys.stdin.read(), sorted(os.environ), os.getcwd())")
    # An interpreter that begins without a locale would give itself one.
    ran = nursery.run(["program"], {"LC_ALL": "C.UTF-8", "ONLY": "1"}, stdin="typed")
    assert (ran.returncode, ran.stdout) == (0, f"typed ['LC_ALL', 'ONLY'] {tmp_path}\n"), ran.stderr


def test_a_killed_program_ends_with_its_signal_and_one_that_lives_has_no_end_yet() -> None:
    process = nursery.start(["http.server", "--bind", "127.0.0.1", str(free_port())], os.environ)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    assert process.poll() == -signal.SIGKILL
    process.terminate()


async def test_nothing_outlives_the_tests_however_they_end() -> None:
    command = [sys.executable, "-c", ORDERS_AND_WAITS, str(free_port())]
    tests = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    assert tests.stdout is not None
    program = psutil.Process(int(await tests.stdout.readline()))
    everybody = [program, *program.parents()[:2]]
    tests.kill()
    await tests.wait()

    async def alive() -> list[psutil.Process]:
        return [process for process in everybody if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]

    await until(alive, lambda left: not left)
