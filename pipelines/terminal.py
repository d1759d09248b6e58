"""Progress of a run on standard error.

On a terminal, one live line names the current phase with its time, or shows a progress bar during training; permanent
lines, such as one per epoch, scroll above it. Elsewhere only the permanent lines are printed. `train.log` has the
seconds of each phase.
"""

import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from omegaconf import DictConfig
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trellis.components import termination

log = logging.getLogger(__name__)


class StderrHandler(logging.StreamHandler):
    """Writes to the `sys.stderr` of the moment, so that a logged line never lands inside the live one."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:
        """The current `sys.stderr`."""
        return sys.stderr


class OutputConsole(Console):
    """A console whose reader may go away, as `head` does: it leaves that to the command."""

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError, where Rich would end the process with status 1."""
        raise


class Terminal:
    """Reports what a run does; use it as a context manager, so that the live line goes away at the end."""

    def __init__(self) -> None:
        self.is_live = sys.stderr.isatty()
        # A stream of its own: standard error is captured while libraries load.
        self._console = Console(file=os.fdopen(os.dup(2), "w") if self.is_live else None, stderr=True, highlight=False)
        self._display = _Display()
        self._live: Live | None = None
        self._phase: str | None = None
        self._began = 0.0

    def __enter__(self) -> Self:
        if self.is_live and self._live is None:
            self._live = Live(
                self._display,
                console=self._console,
                transient=True,
                refresh_per_second=8,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_phase()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def phase(self, name: str) -> None:
        """Begin a phase of the run, such as "reading" or "exporting"."""
        termination.check()
        self._end_phase()
        self._phase, self._began = name, time.perf_counter()
        self._display.show_phase(name)
        self._refresh()

    def _end_phase(self) -> None:
        if self._phase is not None:
            log.info("%s: %.2f s", self._phase, time.perf_counter() - self._began)
            self._phase = None

    def line(self, text: str) -> None:
        """Print a permanent line."""
        if self.is_live:
            self._console.print(text, soft_wrap=True, markup=False)
            return
        # A run continues even if nobody can read its progress any more.
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def training(self, name: str, share: float, text: str) -> None:
        """Show the progress of training.

        Args:
            name: "epoch 3/30".
            share: the share of all epochs that is done, for the bar and the time left.
            text: loss, score and speed.
        """
        self._display.show_training(name, share, text)
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()


class _Display:
    """The live line."""

    def __init__(self) -> None:
        self._spinner = Spinner("dots")
        self._name, self._text = "", ""
        self._began = time.perf_counter()
        self._share: float | None = None
        self._first: tuple[float, float] | None = None  # time and share when training was first shown

    def show_phase(self, name: str) -> None:
        self._name, self._began, self._share = name, time.perf_counter(), None

    def show_training(self, name: str, share: float, text: str) -> None:
        self._name, self._share, self._text = name, share, text
        if self._first is None:
            self._first = time.perf_counter(), share

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._share is None:
            seconds = time.perf_counter() - self._began
            self._spinner.update(text=Text(f"{self._name}  {seconds:.0f} s") if self._name else Text(""))
            yield self._spinner
            return
        row = Table.grid(padding=(0, 1))
        row.add_row(
            self._name,
            ProgressBar(total=1.0, completed=self._share, width=max(8, min(24, options.max_width - 56))),
            Text(self._text, no_wrap=True, overflow="ellipsis"),
            Text(self._left(), style="cyan", no_wrap=True),
        )
        yield row

    def _left(self) -> str:
        assert self._first is not None and self._share is not None
        began, first = self._first
        if self._share <= first:
            return ""
        left = (time.perf_counter() - began) * (1 - self._share) / (self._share - first)
        minutes, seconds = divmod(int(left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02d}:{seconds:02d} left" if hours else f"{minutes}:{seconds:02d} left"


def headline(config: DictConfig, folder: Path) -> str:
    """Return one line on what is about to run, and the folder of the run."""
    return f"{config.model.name} on {config.data.name}, seed {config.seed} → {os.path.relpath(folder)}"
