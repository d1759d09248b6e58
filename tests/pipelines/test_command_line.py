"""The configuration tree and what a person at the terminal gets."""

import re
from typing import get_args

import pytest
from omegaconf import OmegaConf

from tests import warm_python
from tests.pipelines.runs import ROOT, configured, python
from trellis.components.errors import InputError
from trellis.pipelines import settings
from trellis.pipelines.command_line import checked
from trellis.pipelines.configuration import Tree

CONF = ROOT / "conf"


def choices(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_takes_the_datasets_of_its_kind_and_every_key_has_a_meaning(model):
    config = configured(f"model={model}")
    assert config.model.name == model
    for data, path in Tree().files("data").items():
        config.data = OmegaConf.merge(OmegaConf.load(path), {"path": "somewhere"})
        assert config.data.name == data
        if config.data.task in settings.schema_of(config.pipeline._schema_).accepts:
            settings.validate(config)
        else:
            with pytest.raises(InputError, match=rf"model={model} needs .*; data={data} has .* \(try data=sample_"):
                settings.validate(config)
        assert [key.path for key in settings.explain(config) if not key.meaning] == []


@pytest.mark.parametrize("data", choices("data"))
def test_every_dataset_composes(data):
    assert configured(f"data={data}").data.name == data


@pytest.mark.parametrize("data", choices("data"))
def test_every_download_has_a_checksum(data):
    for part, download in (OmegaConf.load(CONF / "data" / f"{data}.yaml").download or {}).items():
        checked_by = re.fullmatch("[0-9a-f]{64}", download.get("sha256") or ""), download.get("git_blob")
        # The languages of XL-WA share one address.
        assert any(checked_by) or data == "xlwa", f"{data}: {part}"


@pytest.mark.parametrize("group", ["optimizer", "schedule", "tracking", "export", "debug", "experiment", "trainer"])
def test_every_choice_composes(group):
    for choice in choices(group):
        settings.validate(configured(f"{group}={choice}"))


def test_command_line_wins_over_experiment_and_model():
    config = configured("experiment=conll2003_bilstm_crf", "data=wnut17", "model=gru_crf", "model.units=7")
    assert (config.data.name, config.model.name, config.model.units) == ("wnut17", "gru_crf", 7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=bilstm_crff"], "model=bilstm_crff: no such choice; did you mean bilstm_crf"),
        (["data=conl2003"], "data=conl2003: no such choice; did you mean conll2003"),
        (["model=bert"], "model=bert: no such choice among"),
        (["model="], "model=: no such choice among"),
        (["model=3"], "model=3: no such choice among"),
        (["experiment=my"], "experiment=my: no such choice among"),
        (["schedule=none"], "did you mean schedule=constant?"),
        (["tracking=false"], "did you mean tracking=off?"),
        (["export=false"], "did you mean export=off?"),
        (["debug=true"], "did you mean debug=fast?"),
        (["+model=gru_crf"], "write model=gru_crf"),
        (["~model"], "~model: there must be a choice of model"),
        (["modle=gru_crf"], "modle: no such key; did you mean model"),
        (["trainer.epocs=3"], "trainer.epocs: no such key; did you mean trainer.epochs"),
        (["epochs=3"], "epochs: no such key; did you mean trainer.epochs?"),
        (["lr=0.1"], "lr: no such key; did you mean optimizer.learning_rate?"),
        (["hidden_size=3"], "hidden_size: no such key; did you mean model.units?"),
        (["model=gru_crf,rnn_crf"], "to try several values, add -m"),
        (["model=["], "model=[: cannot be read"),
        (["help"], "help: trellis train --help lists"),
        (["model", "gru_crf"], "model: write model=gru_crf"),
        (["model", "=", "gru_crf"], "write model=gru_crf, without spaces"),
        (["trainer.epochs=", "3"], "write trainer.epochs=3, without a space"),
        (["trainer.epochs", "=3"], "write trainer.epochs=3, without a space"),
        (["data.path=a(b).conll"], """quote the value, for the shell too: 'data.path="a(b).conll"'"""),
        (["data.path=über/a.conll"], "quote the value"),
        (["data.path=it's"], "quote the value"),
        (["data.path={train:a=b.conll}"], """'data.path={train:"a=b.conll"}'"""),
    ],
)
def test_misspelt_choices_and_keys(overrides, message):
    with pytest.raises(InputError, match=re.escape(message)) as raised:
        Tree().check(overrides)
    assert "\n" not in str(raised.value)


def test_every_choice_of_a_sweep_is_checked():
    Tree().check(["model=gru_crf,rnn_crf", "seed=1,2"], multirun=True)
    with pytest.raises(InputError, match="model=rnn_crff: no such choice"):
        Tree().check(["model=gru_crf,rnn_crff", "seed=1,2"], multirun=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.units=0", r"model.units=0: must be a whole number, at least 1"),
        ("model.layers=-1", r"model.layers=-1: must be"),
        ("model.units=2.5", r"model.units=2.5: must be a whole number"),
        ("model.dropout.input=1.0", r"model.dropout.input=1.0: must be a number, at least 0 and below 1"),
        ("model.cell=lstmm", r"model.cell=lstmm: must be rnn, lstm or gru"),
        ("optimizer.learning_rate=-1", r"optimizer.learning_rate=-1: must be a number above 0"),
        ("optimizer.learning_rate=fast", r"optimizer.learning_rate=fast: must be a number above 0"),
        ("trainer.keep=all", r"trainer.keep=all: must be best or last"),
        ("resume=maybe", r"resume=maybe: must be true or false"),
        ("+model.unit=3", r"model.unit: no such key"),
        ("model.name='my model'", r"model.name=my model: must be a name of letters, digits"),
        ("export.dir=null", r"export.dir=null: name a folder; export=off writes no export"),
        ("batching.tokens=0", r"batching.tokens=0: must be"),
        ("data=conll", r"data.path: not given"),
        ("trainer.epochs=many", r"trainer.epochs=many: must be"),
        ("tracking.experiment=''", r"tracking.experiment=: must be text that is not empty"),
        ("tracking.experiment=null", r"tracking.experiment=null: must be text"),
    ],
)
def test_values_that_cannot_be(override, message):
    with pytest.raises(InputError, match=message):
        settings.validate(configured(override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.iterations.ibm1=0", r"iterations=.*: must be {KEY: a whole number, at least 1, …}, KEY one of ibm1"),
        ("+model.iterations.ibm3=5", r"ibm3.*: must be .* ibm1, ibm2, fast_align or hmm"),
        ("+model.null_probability.ibm1=1.0", r"null_probability=.*: must be {KEY: a number, at least 0 and below"),
        ("model.symmetrization=grow", r"model.symmetrization=grow: must be posterior, intersection"),
        ("model.stepwise=0.5", r"model.stepwise=0.5: must be a number above 0.5 and at most 1"),
        ("model.backoff.strength=-1", r"model.backoff.strength=-1: must be a number, at least 0"),
        ("data.max_length=0", r"data.max_length=0: must be a whole number"),
    ],
)
def test_values_of_aligners_that_cannot_be(override, message):
    with pytest.raises(InputError, match=message):
        settings.validate(configured("model=ibm1", override))


def test_back_off_and_a_prior_exclude_each_other():
    with pytest.raises(InputError, match=r"cannot be combined with model\.concentration"):
        settings.validate(configured("model=agreement", "model.concentration=0.1"))


def test_choices_are_those_that_the_code_has():
    """Those of which the code has more than a name."""
    from trellis.components import choices
    from trellis.components.alignment.symmetrization import METHODS
    from trellis.components.models.word_aligner import STAGES

    assert set(get_args(choices.AlignmentModel)) == set(STAGES)
    assert set(get_args(choices.Symmetrization)) == {"posterior", *METHODS}


def test_help_lists_the_choices_and_composing_does_not_import_tensorflow(tmp_path):
    script = (
        "import sys, runpy\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print('\\nIMPORTED', [m for m in ('tensorflow', 'keras', 'mlflow') if m in sys.modules])\n"
    )
    for flags in (["--help"], ["--cfg", "job"]):
        command = f"import sys; sys.argv = {[str(ROOT / 'train.py'), *flags]}\n{script}"
        done = python("-c", command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "IMPORTED []" in done.stdout
        if flags == ["--help"]:
            for group in ("model", "data", "pipeline"):
                assert f"{group}: {', '.join(choices(group))}" in done.stdout


def test_one_line_and_status_2(tmp_path):
    done = python(ROOT / "train.py", "model=bilstm_crff", cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"train.py: error: model=bilstm_crff: .*\n", done.stderr)
    done = python(ROOT / "train.py", "model.units=0", cwd=tmp_path)
    assert (
        done.returncode == 2 and done.stderr == "train.py: error: model.units=0: must be a whole number, at least 1\n"
    )
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_sweep_may_set_a_key_that_the_default_model_has_not(tmp_path):
    folder = tmp_path / "sweep"
    done = warm_python.python(
        ROOT / "train.py", "-m", "model=ngram,maxent_lm", "report.mixture=2", "text.min_count=null",
        "generation.top_p=0.5", "tracking=off", "export=off", "trainer.epochs=1", "limit.sentences=60",
        f"hydra.sweep.dir={folder}",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for number in "01":
        config = OmegaConf.load(folder / number / ".hydra" / "config.yaml")
        assert (config.report.mixture, config.generation.top_p) == (2, 0.5)
        assert "++report.mixture=2" in OmegaConf.load(folder / number / ".hydra" / "overrides.yaml")


def test_a_value_of_several_keys_may_add_some():
    tree = Tree()
    overrides = ["model=ibm1", "data=bitext", "data.path=somewhere", "data.files={dev: {source: a, target: b}}"]
    config = tree.compose(tree.opened(overrides))
    settings.validate(config)
    assert set(config.data.files) == {"train", "dev"}


def test_flags_that_do_not_exist():
    for arguments, message in [
        (["--epochs", "3"], "write trainer.epochs=3"),
        (["--lr=0.1"], "write optimizer.learning_rate=0.1"),
        (["--model", "gru_crf"], "write model=gru_crf"),
        (["-x"], "-x: no such flag"),
        (["--config-dir", "/nowhere"], "--config-dir /nowhere: no such folder"),
        (["--config-name", "nope"], "--config-name: there is one configuration"),
        (["--package", "model"], "--package: has no effect without --cfg job"),
        (["--resolve"], "--resolve: has no effect without --cfg job"),
        (["--run", "-m"], "--run and --multirun: use one of them"),
        (["--cfg", "job", "--explain", "seed"], "--explain and --cfg: use one of them"),
        (["--experimental-rerun", "job.pickle"], "--experimental-rerun: not supported"),
        (["-m", "model=gru_crf,gru_crff"], "model=gru_crff: no such choice"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            checked(arguments)


def test_a_sweep_can_be_shown_without_running(capsys):
    assert checked(["-m", "seed=1,2", "--cfg", "job"]) == ["--cfg", "job", "seed=1"]
    assert "showing the first of 2 or more jobs" in capsys.readouterr().err


@pytest.mark.parametrize("written", ["resume=true", "resume=True", "resume=TRUE", "++resume=true"])
def test_resume_is_a_value_not_a_text(tmp_path, monkeypatch, capsys, written):
    monkeypatch.chdir(tmp_path)
    assert "resume=true: no unfinished run" in (checked(["model=hmm", written]), capsys.readouterr().err)[1]
    config = Tree().compose(["model=hmm"])
    folder = tmp_path / "outputs" / "day" / "time"
    (folder / ".hydra").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.npz").touch()
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    assert checked(["model=hmm", written])[-1] == "hydra.run.dir=outputs/day/time"


def test_a_sweep_is_resumed_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "multirun" / "day" / "time"
    folder.mkdir(parents=True)
    task = ["model=hmm", "seed=1,2", "resume=true"]
    OmegaConf.save(OmegaConf.create({"hydra": {"overrides": {"task": task}}}), folder / "multirun.yaml")
    found = checked(["-m", "seed=1, 2", "resume=True", "model=hmm"])
    assert found[-1] == "hydra.sweep.dir=multirun/day/time"


def test_a_folder_that_cannot_be_written_is_said_before_hydra_makes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").touch()
    with pytest.raises(InputError, match=r"hydra.run.dir=outputs/.*: cannot be written to \(.*outputs is not a folder"):
        checked(["model=hmm"])


@pytest.mark.parametrize("value", ["2024", "null"])
def test_experiments_have_names(value):
    with pytest.raises(InputError, match=r"tracking.experiment=.*: must be"):
        checked([f"tracking.experiment={value}"])
