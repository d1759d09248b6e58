"""What a person sees while a model trains: one bar on a terminal, one line an epoch elsewhere."""

import sys

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text


class _TimeLeft(ProgressColumn):
    def render(self, task):
        left = task.time_remaining
        if left is None:
            return Text("")
        minutes, seconds = divmod(int(left), 60)
        return Text(f"{minutes}:{seconds:02d} left", style="cyan")


class ProgressBar(keras.callbacks.Callback):
    """Shows loss, dev score, tokens/s and time left.

    Args:
        epochs, steps: of the whole run, and of an epoch.
        watch: an object with `tokens_per_second` and `score` (of the last epoch; None before) and `label`.
    """

    def __init__(self, epochs, steps, watch, first_epoch=0):
        super().__init__()
        self.epochs, self.steps, self.watch, self.first_epoch = epochs, steps, watch, first_epoch
        self.console = Console(stderr=True, highlight=False)
        self.bar = None

    def on_train_begin(self, logs=None):
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

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.bar is not None:
            self.bar.update(
                self.task,
                completed=self.epoch * self.steps + batch + 1,
                description=f"epoch {self.epoch + 1}/{self.epochs}",
                shown=self._shown(logs or {}),
            )

    def on_epoch_end(self, epoch, logs=None):
        if self.bar is None:
            print(f"epoch {epoch + 1}/{self.epochs}  {self._shown(logs or {})}", file=sys.stderr, flush=True)

    def stop(self):
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def _shown(self, logs):
        parts = [f"loss {float(logs['loss']):.3f}"] if "loss" in logs else []
        if self.watch.score is not None:
            parts.append(f"{self.watch.label} {self.watch.score:.4f}")
        if self.watch.tokens_per_second:
            parts.append(f"{self.watch.tokens_per_second:,.0f} tokens/s")
        return "  ".join(parts)
