"""What MLflow shows of a run: names that come from data, and the table of its scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from tests import warm_python
from tests.pipelines.runs import ROOT, configured
from trellis.pipelines import seeds
from trellis.pipelines.tracking import names
from trellis.pipelines.tracking.description import scores_table


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_every_name_is_one_that_mlflow_takes_and_can_be_read_back(kind):
    for name in (f"test/f1/{kind}", kind or "x"):
        encoded = names.encoded(name)
        if len(encoded) < names.LONGEST:
            assert names.decoded(encoded) == name
        _validate_metric_name(encoded)
        _validate_param_name(encoded)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("test/f1", "test/f1"),
        ("test/f1/B-geo loc", "test/f1/B-geo loc"),
        ("test/f1/R&D", "test/f1/R:26D"),
        ("test/f1/C#", "test/f1/C:23"),
        ("test/f1/a:b", "test/f1/a:3Ab"),
        ("test/f1/..", "test/f1/:2E:2E"),
        ("test/f1/a//b/", "test/f1/a/:2Fb:2F"),
        ("test/f1/é", "test/f1/:C3:A9"),
    ],
)
def test_names_by_hand(name, encoded):
    assert names.encoded(name) == encoded and names.decoded(encoded) == name


def test_long_names_differ():
    one, other = (names.encoded("x" * 300 + end) for end in "ab")
    assert one != other and len(one) == len(other) == names.LONGEST


def test_first_starts_at_once_wait_for_each_other(tmp_path):
    """Two processes that find no database, which MLflow makes in steps."""
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from train import use_clone; use_clone()
from pathlib import Path
from trellis.pipelines.configuration import Tree
from trellis.pipelines.tracking.mlflow_tracker import MLflowTracker
folder = Path(sys.argv[1]); folder.mkdir()
uri = "sqlite:///{tmp_path}/mlflow.db"
tracker = MLflowTracker(Tree().compose(["model=hmm"]), folder, uri, "it", None)
tracker.start(); tracker.end("FINISHED")
"""
    running = [warm_python.start("-c", script, tmp_path / name, cwd=tmp_path) for name in ("one", "other")]
    said = [process.stderr.read() for process in running]
    assert [process.wait(60) for process in running] == [0, 0], said


def test_the_first_rows_of_the_table_of_scores_are_those_that_runs_are_compared_by():
    metrics = {
        "dev/best": 0.75,
        "dev/best_epoch": 4,
        "dev/precision": 0.8,
        "dev/f1": 0.75,
        "test/f1": 0.7,
        "train/x": 1,
    }
    assert scores_table(configured(), metrics).splitlines() == [
        "bilstm_crf on sample_ner, best in epoch 4",
        "",
        "| score | dev | test |",
        "|:---|---:|---:|",
        "| f1 | 0.7500 | 0.7000 |",
        "| precision | 0.8000 |  |",
    ]


def test_a_sweep_shows_its_best_configuration_first_and_all_of_them_in_a_table():
    groups = [
        seeds.Group(["model=a|b", "x=1"], [], [{"dev/f1": 0.5, "test/f1": 0.9}, {"dev/f1": 0.6, "test/f1": 0.7}]),
        seeds.Group(["model=c", "x=1"], [], [{"dev/f1": 0.7, "test/f1": 0.5, "dev/other": 1}]),
    ]
    sweep = seeds.summary("sweep", groups, "3 runs:")
    assert (sweep.best, sweep.metrics) == ("model=c x=1", {"dev/f1": 0.7, "test/f1": 0.5})
    assert sweep.description.splitlines() == [
        "Best on dev (dev/f1 0.7000): `trellis train model=c x=1`",
        "",
        "3 runs: x=1",
        "",
        "| settings | test/f1 | runs |",
        "| :--- | ---: | ---: |",
        "| model=a\\|b | 0.8000 ± 0.1414 | 2 |",
        "| model=c | 0.5000 | 1 |",
    ]
    assert seeds.summary("sweep", [seeds.Group([], [], [{"test/x": 1.0}])], "1 run:").metrics == {}
