"""Runs of the real entry, in this process and in others."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

from trellis.pipelines.configuration import Tree

ROOT = Path(__file__).parents[2]


def configured(*overrides):
    """The configuration that these overrides compose."""
    return Tree().compose(overrides)


def run(folder, *overrides):
    """Runs a pipeline in this process, its folder laid out as Hydra does; returns its metrics.

    Exports are verified where the test asks for it alone; and where it does not set `export.verify`, they have no
    golden answers, for which an export is loaded and asked.
    """
    import json
    from unittest import mock

    from trellis.components.saved_model import package
    from trellis.pipelines import pipeline, settings

    with_answers = any(each.startswith("export.verify=") for each in overrides)
    if not with_answers:
        overrides = (*overrides, "export.verify=false")
    config = configured(*overrides)
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")
    settings.validate(config)
    exchanges = package._exchanges if with_answers else lambda *_: []
    with mock.patch.object(package, "_exchanges", exchanges):
        pipeline.run(config, folder)
    return json.loads((folder / "metrics.json").read_text())


def check_segments(folder, metrics):
    """What a run keeps for comparisons gives its score, and every way of dividing it adds up to the whole."""
    import numpy as np
    import pytest

    from trellis.components.metrics import segments

    found = segments.load(folder / "segments.npz")
    assert segments.score_of(found.score)(found.statistics.sum(axis=0)) == pytest.approx(metrics[found.name])
    dimensions = {group.dimension for group in found.groups}
    assert len(dimensions) > 1
    for dimension in dimensions:
        sums = [group.statistics for group in found.groups if group.dimension == dimension]
        np.testing.assert_allclose(np.sum(sums, axis=0), found.statistics, err_msg=dimension)


def heading(page):
    """The title and the heading of a page, without tags."""
    import re

    text = page.read_text(encoding="utf-8")
    return [re.sub("<[^>]*>", "", re.search(f"<{tag}>(.*?)</{tag}>", text)[1]) for tag in ("title", "h1")]


def run_killed(folder, monkeypatch, *overrides):
    """Runs a pipeline that is killed after its first checkpoint, and then resumes it; returns the metrics."""
    import pytest

    from trellis.components.training import checkpoints

    save = checkpoints.save

    def killed(*arguments, **options):
        save(*arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(SystemExit):
            run(folder, *overrides)
    return run(folder, *overrides, "resume=true")


def export_again(finished, folder, *overrides):
    """Runs the pipeline on what another run has trained, from its checkpoints; returns the metrics.

    Args:
        finished: the folder of that run; `overrides` set what that run set, and how the export differs.
    """
    shutil.copytree(finished / "checkpoints", folder / "checkpoints")
    return run(folder, *overrides, "resume=true")


def python(*arguments, cwd, **variables):
    """Runs Python in another process from a folder of the test's own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
