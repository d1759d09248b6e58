"""TensorFlow's profiler over some training steps."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


class Profile(keras.callbacks.Callback):
    """Profile the training steps from `first` to `last`, counted from 1, for TensorBoard's profile page.

    Steps that run in one call of the graph (`steps_per_execution`) are profiled together.

    Args:
        folder: where the profile is written.
        first, last: the steps.
        steps: batches of an epoch.
    """

    def __init__(self, folder: Path, first: int, last: int, steps: int) -> None:
        super().__init__()
        self.folder, self.first, self.last, self.steps = folder, first, last, steps
        self.epoch, self.is_on, self.is_done = 0, False, False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note which epoch it is."""
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the profiler before the call that reaches the first step."""
        following = self.epoch * self.steps + batch + self.model.steps_per_execution
        if not self.is_on and not self.is_done and following >= self.first:
            tf.profiler.experimental.start(str(self.folder))
            self.is_on = True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop it after the last step."""
        if self.is_on and self.epoch * self.steps + batch + 1 >= self.last:
            self._stop()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Stop it where training ends before the last step."""
        if self.is_on:
            self._stop()

    def _stop(self) -> None:
        tf.profiler.experimental.stop()
        self.is_on, self.is_done = False, True
