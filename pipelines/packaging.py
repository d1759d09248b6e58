"""Exporting: weights in fewer bits, the version folder, and what goes into it."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import keras
from omegaconf import DictConfig

from trellis.components.layers.stored_weights import Compressed, compressed
from trellis.components.saved_model import package, upload, verification
from trellis.components.saved_model.versions import check_writable, write_version
from trellis.pipelines.configuration import plain
from trellis.pipelines.task import Data, Metrics, Package
from trellis.pipelines.terminal import Terminal
from trellis.pipelines.tracking.provenance import commit


class Exporter:
    """Writes the export of a run; does nothing with `export=off`.

    Args:
        config: the composed configuration.

    Raises:
        InputError: the folder cannot be written.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config, self.enabled = config, bool(config.export.enabled)
        if self.enabled:
            check_writable(config.export.dir)
            if config.export.upload is not None:
                upload.check(config.export.upload)

    def compress(self, model: keras.Model) -> Compressed | None:
        """Compress the weights of a model as `export.weights` says; return None if it leaves them unchanged.

        Raises:
            InputError: the model has no weights that can be stored in this way.
        """
        weights = self.config.export.weights
        return None if weights == "float32" else compressed(model, weights)

    @contextlib.contextmanager
    def written(
        self, task_package: Package, data: Data, metrics: Metrics, weights: Compressed | None, terminal: Terminal
    ) -> Iterator[Path | None]:
        """Write a version and yield it; remove it again if the block raises: a failed run leaves no export.

        Then copy it to `export.upload`; it is kept if that fails.
        """
        if not self.enabled:
            yield None
            return
        version = write_version(
            self.config.export.dir, lambda path: self._write(path, task_package, data, metrics, weights, terminal)
        )
        try:
            yield version
            package.publish_metadata(version.parent)
        except BaseException:
            shutil.rmtree(version)
            raise
        url = self.config.export.upload
        if url is not None:
            terminal.phase("copying the export")
            terminal.line(f"copied the export to {upload.upload(version, url)}")

    def _write(
        self,
        path: Path,
        task_package: Package,
        data: Data,
        metrics: Metrics,
        weights: Compressed | None,
        terminal: Terminal,
    ) -> None:
        """Write an export to a folder, and verify it in a separate process."""
        terminal.phase("exporting")
        config = self.config
        facts = {
            "data": data.description,
            "licence": config.data.licence,
            "language": config.data.language,
            "commit": commit(),
            "created": time.strftime("%Y-%m-%d %H:%M:%S %z"),
            **task_package.facts,
            "metrics": metrics,
            "config": plain(config),
        }
        package.write(
            path,
            task_package.module,
            config.model.name,
            task_package.texts,
            facts,
            weights,
            config.export.batching,
        )
        if config.export.verify:
            terminal.phase("verifying the export")
            verification.verify(path)
