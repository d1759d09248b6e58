"""The examples of docs/how_to/extending.md: models, readers, datasets and tasks that are not in the package."""

import json
import shutil
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import trellis
from tests import warm_python
from tests.pipelines.runs import ROOT
from trellis.components.errors import InputError
from trellis.pipelines import configuration

EXAMPLES = ROOT / "docs" / "examples"
FAST = ("tracking=off", "export.verify=false", "trainer.epochs=2")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A copy of the example of a model, with data, as the current folder."""
    folder = tmp_path / "own"
    shutil.copytree(EXAMPLES / "own_model", folder)
    for part in ("train", "dev", "test"):
        lines = ["Mary/B-PER Smith/I-PER sings/O", "Bob/B-PER runs/O", "it/O rains/O in/O Oslo/B-LOC"]
        (folder / f"{part}.txt").write_text("\n".join(lines * 4) + "\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for name in ("mine", "mine_settings", "regression"):
        sys.modules.pop(name, None)


# Trains once for each line of the first argument, in one process, as `trellis train` does.
SEVERAL = """
import sys
from trellis.__main__ import main
for line in sys.argv[1].splitlines():
    if main(["train", "--config-dir", "conf", *line.split(" ")]):
        sys.exit(line)
"""


def train(*arguments, cwd):
    return warm_python.python("-m", "trellis", "train", "--config-dir", "conf", *arguments, cwd=cwd)


def test_a_model_of_ones_own_trains_exports_and_answers(own):
    run = trellis.train("model=mine", "data.path=.", *FAST, config_dirs=["conf"])
    assert run.metrics["train/epochs"] == 2 and run.export.name == "1" and run.model.name == "mine"
    assert (run.folder / "train.log").read_text() and (run.folder / ".hydra" / "config.yaml").exists()
    tagged = trellis.load("exports/mine").tag("Mary sings")
    assert tagged.tokens == ["Mary", "sings"] and len(tagged.tags) == 2


def test_misspelt_keys_and_values_of_ones_own_model_are_one_line(own):
    for arguments, message in (
        (["model=mien"], "model=mien: no such choice; did you mean mine"),
        (["model=mine", "model.unit=3", "data.path=."], "model.unit: no such key; did you mean model.units"),
        (["model=mine", "model.units=0", "data.path=."], "model.units=0: must be a whole number, at least 1"),
        (["model=mine"], "data.path: not given; set it on the command line: data.path=…"),
    ):
        with pytest.raises(InputError) as raised:
            trellis.train(*arguments, config_dirs=["conf"])
        assert message in str(raised.value)
    with pytest.raises(InputError, match=r"--config-dir .*nowhere: no such folder"):
        trellis.train("model=mine", config_dirs=["nowhere"])


def test_the_command_line_resumes_and_sweeps_with_ones_own_folder(own):
    done = train("model=mine", "data.path=nowhere", cwd=own)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "trellis train: error: data.path: nowhere is not a folder"
    sweep = ("-m", "model=mine,hmm", "data=slashes", "data.path=.", "export=off", *FAST)
    small = ("experiment=mine_small", "data.path=.", "export=off", *FAST)
    lines = [" ".join(sweep), " ".join([*small, "hydra.run.dir=outputs/2026-01-01/00-00-00"])]
    done = warm_python.python("-c", SEVERAL, "\n".join(lines), cwd=own)
    assert done.returncode == 0, done.stderr
    assert len(list(own.glob("multirun/*/*/*/metrics.json"))) == 2
    whole = json.loads((own / "outputs/2026-01-01/00-00-00/metrics.json").read_text())
    (own / "outputs/2026-01-01/00-00-00/metrics.json").unlink()
    resumed = train(*small, "resume=true", cwd=own)
    assert resumed.returncode == 0, resumed.stderr
    again = json.loads((own / "outputs/2026-01-01/00-00-00/metrics.json").read_text())
    assert again["dev/loss"] == pytest.approx(whole["dev/loss"])


def test_a_plug_in_package_brings_its_configurations_along(own, monkeypatch):
    package = own / "plugged" / "settings"
    shutil.copytree(own / "conf", package)
    for folder in (own / "plugged", package):
        (folder / "__init__.py").touch()
    entry = EntryPoint("plugged", "plugged.settings", configuration.PLUGINS)
    monkeypatch.setattr(configuration, "entry_points", lambda group: [entry])
    sys.path.append(str(own))
    assert configuration.Tree().compose(["model=mine"]).model.name == "mine"


def test_a_task_of_ones_own_is_one_file_and_two_yamls(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    shutil.copytree(EXAMPLES / "own_pipeline", folder)
    assert len(list(folder.rglob("*.py"))) == 1 and len(list(folder.rglob("*.yaml"))) == 2
    rows = [(number, "good " * number + "film") for number in range(5)] * 20
    text = "label\ttext\n" + "".join(f"{number}\t{words}\n" for number, words in rows)
    (folder / "films.tsv").write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ("tracking=off", "trainer.epochs=30", "optimizer.learning_rate=0.05")
    run = trellis.train("model=bow_regressor", "data.path=films.tsv", *options, config_dirs=["conf"])
    assert run.metrics["test/loss"] < 0.5
    import tensorflow as tf

    asked = tf.saved_model.load(str(run.export)).signatures["serving_default"]
    few, many = asked(text=tf.constant(["good film", "good good good good film"]))["number"].numpy()
    assert few < many and np.isfinite([few, many]).all()
    (folder / "broken.tsv").write_text(text.replace("\n3\t", "\nthree\t"))
    with pytest.raises(InputError, match=r"broken\.tsv: could not convert string to float: 'three'"):
        trellis.train("model=bow_regressor", "data.path=broken.tsv", *options, config_dirs=["conf"])
    sys.modules.pop("regression", None)
