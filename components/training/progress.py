"""The progress of training: a bar on a terminal, one line per epoch elsewhere."""

import sys
from typing import Protocol

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from trellis.components.types import JSON


class Watch(Protocol):
    """What the bar reads while a model trains.

    Attributes:
        label: name of the score.
        score: of the last epoch, or None before the first one has ended.
        tokens_per_second: speed so far, or None before the first batch.
    """

    label: str
    score: float | None
    tokens_per_second: float | None


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.time_remaining
        if left is None:
            return Text("")
        minutes, seconds = divmod(int(left), 60)
        return Text(f"{minutes}:{seconds:02d} left", style="cyan")


class ProgressBar(keras.callbacks.Callback):
    """Show loss, dev score, tokens per second and the time left.

    Args:
        epochs: number of epochs of the whole run.
        steps: number of batches in an epoch.
        watch: what to show.
        first_epoch: number of epochs that an earlier run has trained.
    """

    def __init__(self, epochs: int, steps: int, watch: Watch, first_epoch: int = 0) -> None:
        super().__init__()
        self.epochs, self.steps, self.watch = epochs, steps, watch
        self.first_epoch = self.epoch = first_epoch
        self.console = Console(stderr=True, highlight=False)
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def on_train_begin(self, logs: JSON | None = None) -> None:
        if not sys.stderr.isatty():
            return
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[shown]}"),
            _TimeLeft(),
            console=self.console,
            transient=True,
        )
        self.bar.start()
        self.task = self.bar.add_task(
            "", total=self.epochs * self.steps, completed=self.first_epoch * self.steps, shown=""
        )

    def on_epoch_begin(self, epoch: int, logs: JSON | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: JSON | None = None) -> None:
        if self.bar is not None:
            self.bar.update(
                self.task,
                completed=self.epoch * self.steps + batch + 1,
                description=f"epoch {self.epoch + 1}/{self.epochs}",
                shown=self._summary(logs or {}),
            )

    def on_epoch_end(self, epoch: int, logs: JSON | None = None) -> None:
        if self.bar is None:
            print(f"epoch {epoch + 1}/{self.epochs}  {self._summary(logs or {})}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Remove the bar from the terminal."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _summary(self, logs: JSON) -> str:
        parts = [f"loss {float(logs['loss']):.3f}"] if "loss" in logs else []
        if self.watch.score is not None:
            parts.append(f"{self.watch.label} {self.watch.score:.4f}")
        if self.watch.tokens_per_second:
            parts.append(f"{self.watch.tokens_per_second:,.0f} tokens/s")
        return "  ".join(parts)
