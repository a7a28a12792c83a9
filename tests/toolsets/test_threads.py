import subprocess
import sys
import threading
from functools import partial

import anyio
import pytest

from envhub.toolsets.threads import Threads

pytestmark = pytest.mark.anyio


async def test_result_and_error_come_back():
    threads = Threads("test", 2)
    assert await threads.run(partial(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(partial(divmod, 7, 0))


async def test_hanging_call_keeps_its_place_until_it_ends():
    threads = Threads("test", 1)
    release = threading.Event()
    with anyio.move_on_after(0.05):
        await threads.run(partial(release.wait, 30))
    with anyio.move_on_after(0.05) as waiting:
        await threads.run(int)
    assert waiting.cancelled_caught
    release.set()
    with anyio.fail_after(10):
        assert await threads.run(int) == 0


def test_hanging_call_does_not_keep_the_process_alive():
    program = """
import anyio, threading
from envhub.toolsets.threads import Threads
async def main():
    with anyio.move_on_after(0.05):
        await Threads("test", 1).run(threading.Event().wait)
anyio.run(main)
print("over")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ended.stdout, ended.stderr) == ("over\n", "")
