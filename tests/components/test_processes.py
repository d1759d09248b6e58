"""Names of processes that outlive them, as records of runs and trials have them."""

import os
import subprocess
import sys

from trellis.components.processes import has_ended, this_process


def test_a_process_has_ended_only_if_it_ran_here_and_runs_no_longer():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = this_process().removesuffix(f":{os.getpid()}")
    assert not has_ended(this_process())
    assert has_ended(f"{here}:{ended.pid}")
    assert not has_ended(f"elsewhere:{ended.pid}") and not has_ended("") and not has_ended(f"{here}:x")
