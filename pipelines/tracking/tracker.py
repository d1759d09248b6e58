"""The interface of trackers, and the tracker that records nothing."""

import abc
from pathlib import Path

from omegaconf import DictConfig

from trellis.pipelines.task import Data, Metrics, Package


class Tracker(abc.ABC):
    """Records one run.

    Args:
        config: the composed configuration.
        folder: of the run.
    """

    def __init__(self, config: DictConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    @abc.abstractmethod
    def start(self) -> None:
        """Begin or resume the record of the run.

        Raises:
            InputError: the server or database cannot be reached.
        """

    @abc.abstractmethod
    def log_data(self, data: Data) -> None:
        """Record what the run reads."""

    @abc.abstractmethod
    def log_metrics(self, metrics: Metrics, step: int) -> None:
        """Record scores at an epoch."""

    @abc.abstractmethod
    def log_final(self, metrics: Metrics) -> None:
        """Record the scores of the whole run."""

    @abc.abstractmethod
    def log_reports(self, folder: Path) -> None:
        """Record the files of a folder, and the learning curve with them."""

    @abc.abstractmethod
    def log_folder(self, folder: Path) -> None:
        """Record the files of a folder, under its name."""

    @abc.abstractmethod
    def log_model(self, export: Path, package: Package, monitor: str, score: float) -> None:
        """Record an export.

        Args:
            export: the version folder.
            package: what was exported.
            monitor: the name of the score that chose the model.
            score: its value.
        """

    @abc.abstractmethod
    def end(self, status: str, reason: str | None = None) -> None:
        """Record how the run ended.

        Args:
            status: `FINISHED`, `FAILED` or `KILLED`.
        """

    @abc.abstractmethod
    def problem(self, error: Exception) -> str | None:
        """Return one line about an error of the server or database that the user can fix; None for other errors."""

    @abc.abstractmethod
    def description(self) -> str | None:
        """Return the location of the record, for people; None if there is none."""

    @abc.abstractmethod
    def command(self) -> str | None:
        """Return the command that starts a server that shows the record; None if none is needed."""

    @abc.abstractmethod
    def page(self) -> str | None:
        """Return the address of a page that shows this run among others; None if there is none."""


class NullTracker(Tracker):
    """Records nothing, and does not import MLflow."""

    def start(self) -> None:
        """Do nothing."""

    def log_data(self, data: Data) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Metrics, step: int) -> None:
        """Do nothing."""

    def log_final(self, metrics: Metrics) -> None:
        """Do nothing."""

    def log_reports(self, folder: Path) -> None:
        """Do nothing."""

    def log_folder(self, folder: Path) -> None:
        """Do nothing."""

    def log_model(self, export: Path, package: Package, monitor: str, score: float) -> None:
        """Do nothing."""

    def end(self, status: str, reason: str | None = None) -> None:
        """Do nothing."""

    def problem(self, error: Exception) -> None:
        """Return None."""
        return

    def description(self) -> None:
        """Return None."""
        return

    def command(self) -> None:
        """Return None."""
        return

    def page(self) -> None:
        """Return None."""
        return
