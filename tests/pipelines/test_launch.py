"""Workers on one machine: how they are started, and how they end."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.pipelines.runs import python
from trellis.components.errors import InputError
from trellis.pipelines import command_line, launch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "the following arguments are required: --workers"),
        (["--workers", "0", "train"], "--workers: '0' must be a whole number of at least 1"),
        (["--workers", "2"], "no command: only train can be launched"),
        (["--workers", "2", "serve", "exports"], "serve: only train can be launched"),
        (["--workers", "2", "train", "trainer.strategy=none"], "trainer.strategy=none: launched workers have"),
    ],
)
def test_a_wrong_command_is_one_line(capsys, arguments, message):
    try:
        code = launch.main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trellis launch: error: ") and message in line


def test_a_worker_without_its_addresses_is_refused(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match="TF_CONFIG is not set; `trellis launch"):
        command_line.checked(["trainer.strategy=multi_worker"])


def test_sweeps_are_for_one_process():
    with pytest.raises(InputError, match="-m: not with trainer"):
        command_line.checked(["-m", "trainer.strategy=multi_worker", "seed=1,2"])


def test_each_worker_has_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = ["trainer.strategy=multi_worker", "hydra.run.dir=runs/mine", "resume=true"]
    folders = []
    for environment in launch._environments(2):
        monkeypatch.setenv("TF_CONFIG", environment["TF_CONFIG"])
        folders.append([each for each in command_line.checked(asked) if each.startswith("hydra.run.dir=")])
    assert folders == [["hydra.run.dir=runs/mine"], ["hydra.run.dir=runs/mine-worker1"]]


def processes(*programs):
    return [subprocess.Popen([sys.executable, "-c", program], start_new_session=True) for program in programs]


def test_a_worker_that_ends_ends_the_others():
    began = time.monotonic()
    started = processes("import time; time.sleep(60)", "raise SystemExit(3)", "import time; time.sleep(60)")
    assert launch._wait(started) == (1, 3)
    assert time.monotonic() - began < 30 and [process.poll() for process in started] == [-15, 3, -15]


def test_a_killed_worker_gives_the_status_of_its_signal():
    assert launch._wait(processes("import os; os.kill(os.getpid(), 9)", "import time; time.sleep(60)")) == (0, 137)


def test_a_signal_ends_all_workers():
    started = processes(*["import time; time.sleep(60)"] * 2)
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGTERM])
    timer.start()
    assert launch._wait(started) == (0, 143)
    assert [process.poll() for process in started] == [-15, -15]


def test_workers_that_succeed_give_status_0():
    assert launch._wait(processes("", "")) == (0, 0)


@pytest.mark.slow
def test_the_error_of_the_workers_is_shown_and_they_leave_nothing(tmp_path):
    done = python("-m", "trellis", "launch", "--workers", "2", "train", "model=ngram", cwd=tmp_path)
    assert done.returncode == 2 and not any(tmp_path.iterdir())
    # Of the chief, of the other worker, or of both, whichever fails first.
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 2
    assert all("trainer.strategy=multi_worker: model=ngram is trained by one process alone" in line for line in lines)
