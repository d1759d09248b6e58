"""SIGTERM and SIGINT are notes that the next step reads; a second signal ends the process at once."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.pipelines.runs import ROOT
from trellis.components import termination

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_the_next_check_raises_and_the_handler_is_restored(number):
    former = signal.getsignal(number)
    with pytest.raises(termination.Terminated) as raised, termination.deferred():
        termination.check()
        os.kill(os.getpid(), number)
        # Where the main thread happens to be nothing is raised.
        assert sum(range(1000)) == 499_500
        thread = threading.Thread(target=termination.check)
        thread.start()
        thread.join()
        termination.check()
    assert signal.getsignal(number) is former
    assert raised.value.status == 128 + number
    termination.check()


SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from train import use_clone
use_clone()
from trellis.components import termination
termination.GRACE = {grace}
termination.end_at_once()
print("early", flush=True)
{early}
with termination.deferred(lambda: {late}):
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""


def started(grace, early="", late='print("too late", flush=True)'):
    script = SCRIPT.format(root=str(ROOT), grace=grace, early=early, late=late)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


@BOTH
def test_a_second_signal_ends_the_process_at_once_with_what_must_not_be_left_undone(number):
    with started(60) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["early\n", "ready\n"]
        process.send_signal(number)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(10) == 128 + number and process.stdout.read() == "too late\n"


def test_a_second_signal_does_not_wait_for_a_record_that_hangs():
    with started(60, "termination.LAST = 0.2", "time.sleep(60)") as process:
        [process.stdout.readline() for _ in range(2)]
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        assert process.wait(5) == 143


def test_a_block_that_comes_to_no_check_is_ended():
    with started(0.2) as process:
        [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143 and process.stdout.read() == "too late\n"


@BOTH
def test_before_there_is_anything_to_lose_the_process_ends_at_once(number):
    with started(60, "time.sleep(60)") as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(10) == 128 + number


def test_signals_are_heeded_while_the_main_thread_is_in_native_code():
    script = SCRIPT.format(root=str(ROOT), grace=60, early="", late="None").replace(
        "time.sleep(0.01)", "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
