"""Signals at random moments of a training, from start-up to export: how each ends, and what it leaves behind.

python -m benchmarks.signals [--count 300] [--minutes 120] [--seed 1]

Each time a small tagger is trained, tracked and exported, and gets one signal: SIGTERM, or one time in four SIGINT. One
time in four it starts as a user starts it, with a new database; otherwise it is forked from a process that has loaded
the libraries, and adds to a database.

A run may end with 0, if it was finished before, 143 after SIGTERM and 130 after SIGINT; a shell reports the same
statuses for a process that the signal itself ends. No run may stay RUNNING in MLflow, no export may be incomplete or of
a run that is not finished, and there may be no traceback. Deviations are listed, and their folders are kept.
"""

import argparse
import contextlib
import math
import os
import random
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = (
    "model=bilstm_softmax", "model.bidirectional=false", "model.units=8", "model.characters.kind=none",
    "limit.sentences=40", "trainer.epochs=4",
)  # fmt: skip
STATUSES = {signal.SIGTERM: 143, signal.SIGINT: 130}
COMPLETE = {"saved_model.pb", "variables/variables.index", "assets.extra/golden.json", "assets.extra/metadata.json"}
WITHIN = 600.0  # seconds that a run is given to end
PHASES = (  # the last line of train.log, or its absence, names what a run was at
    ("", "start-up"), ("loading libraries", "the record"), ("starting the record", "reading"),
    ("reading", "encoding"), ("encoding", "building"), ("building", "compiling"), ("compiling", "training"),
    ("epoch", "training"), ("scoring", "reports"), ("writing reports", "exporting"), ("exporting", "verifying"),
    ("verifying", "logging the model"), ("logging the model", "the end"),
)  # fmt: skip


class Run:
    """A training in a folder, in a process of its own.

    Attributes:
        status: as of `subprocess`: that of the process, or minus the signal that ended it.
        work: seconds of a processor that it has had.
    """

    def __init__(self, folder, forked):
        folder.mkdir(parents=True, exist_ok=True)
        self.status, self.work = None, 0.0
        if forked:
            self._process = os.fork()
            if not self._process:
                self._train(folder)
        else:
            with open(folder / "stdout", "w") as output, open(folder / "stderr", "w") as errors:
                command = [sys.executable, str(ROOT / "train.py"), *SMALL]
                self._process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=errors).pid

    def _train(self, folder):
        from trellis.pipelines import command_line

        os.chdir(folder)
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT), descriptor)
        sys.exit(command_line.main(SMALL, "train.py"))

    def wait(self, seconds=math.inf, work=math.inf):
        """Waits for its end, for some seconds, or until it has done some work; returns whether it has ended."""
        end = time.monotonic() + seconds
        while self.status is None:
            process, status = os.waitpid(self._process, os.WNOHANG)
            if process:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end or self._work() > work:
                return False
            else:
                time.sleep(0.005)
        return True

    def _work(self):
        """Seconds of a processor that it and its children have had; busy machines do not change what comes when."""
        ticks, processes = 0, [str(self._process)]
        with contextlib.suppress(OSError):
            processes += Path(f"/proc/{self._process}/task/{self._process}/children").read_text().split()
        for process in processes:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
        self.work = max(self.work, ticks / os.sysconf("SC_CLK_TCK"))
        return self.work

    def send(self, number):
        os.kill(self._process, number)


def load_libraries():
    """Imports what a training imports, without a computation, so that this process may be forked."""
    import matplotlib.pyplot  # noqa: F401
    import mlflow.pyfunc  # noqa: F401

    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import trellis.pipelines.command_line
        import trellis.pipelines.pipeline
        import trellis.pipelines.tagging
        import trellis.pipelines.tracking.mlflow_tracker  # noqa: F401


def phase(folder):
    """What a run was at, according to its log."""
    log = next(folder.glob("outputs/*/*/train.log"), None)
    ended = re.findall(r"terminal: ([^:\n]+).*: [\d.]+ s$", log.read_text(), re.MULTILINE) if log else []
    # The log has a line for each phase that has ended, the last one because of the signal.
    last = ended[-2] if len(ended) > 1 else ""
    return next(name for begin, name in reversed(PHASES) if last.startswith(begin))


def deviations(folder, status, number):
    """What a run should not have left, each in a few words."""
    shown = 128 - status if status < 0 else status  # as a shell has it
    if shown not in (0, STATUSES[number]):
        yield f"status {status}"
    if shown == 0 and not list(folder.glob("exports/*/1")):
        yield "status 0 without an export"
    database = folder / "mlflow.db"
    if database.exists():
        with sqlite3.connect(database) as connection:
            try:
                records = [row[0] for row in connection.execute("select status from runs order by start_time")]
            except sqlite3.OperationalError:  # no table yet
                records = []
        if "RUNNING" in records:
            yield "a run is RUNNING"
        finished = records[-1:] == ["FINISHED"]
        if shown == 0 and not finished:
            yield f"status 0, recorded as {records[-1:]}"
        if list(folder.glob("exports/*/[0-9]*")) and not finished:
            yield f"an export of a run that is {records[-1:]}"
    for version in folder.glob("exports/*/[0-9]*"):
        missing = {name for name in COMPLETE if not (version / name).exists()}
        if missing:
            yield f"an export lacks {', '.join(sorted(missing))}"
    errors = (folder / "stderr").read_text()
    if "Traceback" in errors and status != -signal.SIGINT:  # Python itself answers an interrupt of its imports
        yield "a traceback"


def is_left_behind(folder):
    """Whether there are files under the names of what is being written, which nothing reads."""
    return any(path.name.startswith((".part-", ".writing-")) for path in folder.rglob("*"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    drawn, home, end = random.Random(options.seed), Path(tempfile.mkdtemp()), time.monotonic() + 60 * options.minutes
    load_libraries()
    lengths = {}
    for forked in (False, True):
        run = Run(home / "whole", forked)
        assert run.wait() and run.status == 0, (home / "whole" / "stderr").read_text()
        lengths[forked] = run.work
    shown = " and ".join(f"{length:.1f} s" for length in lengths.values())
    print(f"runs that are started and that are forked work {shown}; signals come at any time", flush=True)
    ends, moments, waits, wrong, left = Counter(), Counter(), [], [], 0
    for index in range(options.count):
        if time.monotonic() > end:
            break
        folder, forked = home / str(index), drawn.random() < 0.75
        number = signal.SIGINT if drawn.random() < 0.25 else signal.SIGTERM
        moment = drawn.uniform(0, lengths[forked])
        folder.mkdir()
        if forked:
            shutil.copy(home / "whole" / "mlflow.db", folder)
        run = Run(folder, forked)
        if not run.wait(work=moment):
            run.send(number)
        sent = time.monotonic()
        if not run.wait(WITHIN):
            run.send(signal.SIGKILL)
            run.wait(WITHIN)
        waits.append(time.monotonic() - sent)
        found = list(deviations(folder, run.status, number))
        ends[number.name, run.status] += 1
        moments[phase(folder)] += 1
        left += is_left_behind(folder)
        if found:
            wrong.append(folder)
            print(f"{folder}: {number.name} after {moment:.2f} s of work: {'; '.join(found)}", flush=True)
        else:
            shutil.rmtree(folder)
    print(f"{sum(ends.values())} signals")
    for (name, status), count in sorted(ends.items()):
        print(f"  {name:<8} status {status:>4} {count:>5}")
    print("at " + ", ".join(f"{name} {count}" for name, count in moments.most_common()))
    print(f"seconds until the end: median {statistics.median(waits):.2f}, maximum {max(waits):.2f}")
    print(f"{left} runs left files under the names of what is being written")
    print(f"{len(wrong)} deviations" + (f", kept in {home}" if wrong else ""))
    if not wrong:
        shutil.rmtree(home)


if __name__ == "__main__":
    main()
