"""Train with several processes of this machine: `trellis launch --workers 2 train model=bilstm_crf`

Each worker trains on its share of the rows of every batch, on a GPU of its own where there are any. The arguments of
`train` are the same for all; the output is that of worker 0, which writes the run, its checkpoints and the export. If
one worker ends, the others are ended too; the same command with resume=true goes on after the last whole epoch.
"""

import argparse
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from types import FrameType
from typing import IO

from trellis.components import cluster
from trellis.components.command import CommandParser, positive_int, run_command
from trellis.components.errors import InputError
from trellis.components.termination import GRACE, SIGNALS, status

STRATEGY = "trainer.strategy="


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis launch", __doc__)
    parser.add_argument("--workers", type=positive_int, required=True, help="the number of processes")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="train, and its arguments")
    return run_command(parser, _launch, parser.parse_args(arguments))


def _launch(options: argparse.Namespace) -> None:
    """Start the workers, and end with the status of the first one that fails.

    Raises:
        InputError: the command is not `train`, it asks for another strategy, or a worker other than the chief fails.
        SystemExit: otherwise.
    """
    name, *arguments = options.command or [""]
    if name != "train":
        raise InputError(f"{name or 'no command'}: only train can be launched: trellis launch --workers 2 train …")
    for argument in arguments:
        if argument.startswith(STRATEGY) and argument != f"{STRATEGY}multi_worker":
            raise InputError(f"{argument}: launched workers have trainer.strategy=multi_worker")
    command = [sys.executable, "-m", "trellis", "train", *arguments, f"{STRATEGY}multi_worker"]
    with ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in range(options.workers - 1))]
        processes = [
            # In a session of its own: the signals of a terminal reach a worker through this process, once.
            subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            for environment, output in zip(_environments(options.workers), outputs, strict=True)
        ]
        failed, code = _wait(processes)
        if failed > 0:
            raise InputError(f"worker {failed}: {_last_line(outputs[failed], code)}")
    raise SystemExit(code)


def _environments(workers: int) -> list[dict[str, str]]:
    """Return the environment of each worker, with a `TF_CONFIG` of free ports of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(workers)]
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    return [
        {
            **os.environ,
            cluster.VARIABLE: json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            ),
        }
        for index in range(workers)
    ]


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Wait for the end of all processes; when one fails, or this process receives a signal, end the others.

    Returns:
        The index of the first process that failed, and its exit status; 0 and the status of a signal or of success.
    """
    ended: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()

    def watch(index: int, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        ended.put((index, code if code >= 0 else status(-code)))

    def stop(number: int, frame: FrameType | None) -> None:
        ended.put((0, status(number)))

    former = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        for index, process in enumerate(processes):
            threading.Thread(target=watch, args=(index, process), daemon=True).start()
        running = len(processes)
        while running:
            try:
                index, code = ended.get(timeout=0.2)  # so that signals which other threads receive are handled
            except queue.Empty:
                continue
            running -= 1
            if code:
                _end(processes)
                return index, code
        return 0, 0
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let processes end after their step, and kill those that do not."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.terminate()
    for process in processes:
        try:
            process.wait(GRACE + 5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_line(output: IO[bytes] | None, code: int) -> str:
    """Return why a worker ended: the last line of its output, or its exit status."""
    if output is not None and code == 2:
        output.seek(0)
        lines = output.read().decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1].partition("error: ")[2] or lines[-1]
    return f"ended with status {code}; the same command with resume=true goes on after the last whole epoch"


if __name__ == "__main__":
    sys.exit(main())
