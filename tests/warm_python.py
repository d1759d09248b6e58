"""Python processes that start with TensorFlow and MLflow imported, which takes most of the time of a short command.

They are forked from a server that has imported both and computed nothing yet. For tests of what happens when nothing
is imported, start a process of its own: `tests.pipelines.runs.python`.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.heavy_imports"])


class Process:
    """A running command, in the manner of `subprocess.Popen`.

    Attributes:
        pid: its process id.
        stderr: the lines of its standard error, as they are written.
    """

    def __init__(self, arguments: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        pipe = f"{self._folder.name}/stderr"
        os.mkfifo(pipe)
        self._process = _context.Process(target=_execute, args=(arguments, str(cwd), environment, self._folder.name))
        self._process.start()
        self.pid = self._process.pid
        self.stderr = open(pipe, encoding="utf-8")  # noqa: SIM115 (closed by the garbage collector, as Popen's)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, negative if a signal ended the process.

        Raises:
            TimeoutError: it still runs.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError
        return self._process.exitcode

    def stdout(self) -> str:
        """Return what it has written to standard output."""
        return Path(f"{self._folder.name}/stdout").read_text(encoding="utf-8")


def start(*arguments: object, cwd: Path, **variables: str) -> Process:
    """Start Python with these arguments: `-c CODE …`, `-m MODULE …` or `SCRIPT …`."""
    return Process(list(map(str, arguments)), cwd, {**os.environ, **variables})


def python(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments to its end."""
    process = start(*arguments, cwd=cwd, **variables)
    stderr = process.stderr.read()
    status = process.wait(300)
    return subprocess.CompletedProcess(list(arguments), status, process.stdout(), stderr)


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a module in a process of its own, with whose end all threads end that it leaves behind."""
    with ProcessPoolExecutor(1, _context) as processes:
        return processes.submit(function, *arguments).result()


def _execute(arguments: list[str], cwd: str, environment: dict[str, str], folder: str) -> None:
    """Become the command in a forked process."""
    for number, name, flags in ((1, "stdout", os.O_CREAT), (2, "stderr", 0)):
        file = os.open(f"{folder}/{name}", os.O_WRONLY | flags)
        os.dup2(file, number)
        os.close(file)
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    first, *rest = arguments
    try:
        if first == "-c":
            sys.argv = [first, *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif first == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(first, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # processes of multiprocessing leave without them
