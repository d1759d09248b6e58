"""Names that come from data, as MLflow takes them."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from tests.pipelines.runs import ROOT
from trellis.pipelines.tracking import names


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
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / name)], stderr=subprocess.PIPE, text=True)
        for name in ("one", "other")
    ]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
