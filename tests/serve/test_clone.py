"""`python -m serve.X` in a clone whose environment has the dependencies but not the package."""

import os
import subprocess
import sys

import pytest

from tests.pipelines.runs import ROOT

# Runs at start-up, and hides the package as if it had never been installed.
HIDE_PACKAGE = """\
import sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""


@pytest.fixture
def python(tmp_path):
    """A function that runs Python in the clone, without the package being installed."""
    (tmp_path / "sitecustomize.py").write_text(HIDE_PACKAGE)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def python(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
        )

    return python


def test_the_package_is_hidden(python):
    assert "No module named 'trellis'" in python("-c", "import trellis").stderr


@pytest.mark.parametrize("command", ["predict", "generate", "search", "project", "local", "verify", "promote"])
def test_every_command_explains_itself(python, command):
    done = python("-m", f"serve.{command}", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: trellis "), done.stderr


def test_mistakes_are_one_line_and_exit_status_2(python, tmp_path):
    done = python("-m", "serve.predict", str(tmp_path / "absent"), "a text")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("trellis predict: error: ") and done.stderr.count("\n") == 1


def test_train_needs_no_package_either(python):
    done = python("train.py", "--cfg", "job", "model=gru_lm")
    assert done.returncode == 0 and "name: gru_lm" in done.stdout, done.stderr
