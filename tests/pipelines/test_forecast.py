"""The command `trellis label forecast`."""

import json

import pytest

from tests.pipelines.runs import configured
from trellis.components.errors import InputError
from trellis.components.metrics.learning_curve import LearningCurve
from trellis.label import main
from trellis.pipelines import forecast
from trellis.pipelines.tagging import Tagging


def law(sentences):
    return 0.92 - 2 * sentences**-0.5


@pytest.fixture
def trained(monkeypatch):
    """Runs that end with the scores of a law, and what each was asked for."""
    asked = []

    def train(common, own, folder):
        asked.append(([*common.overrides, *own], folder.name))
        share = float(next(each for each in own if each.startswith("limit.train=")).partition("=")[2])
        return {"dev/f1": 0.1, "test/f1": law(round(share * 700))}

    monkeypatch.setattr(forecast, "train", train)
    return asked


def test_a_forecast_trains_on_growing_shares_and_says_what_a_target_needs(trained, tmp_path, capsys):
    folder = tmp_path / "f"
    folder.mkdir()
    arguments = ["model=gru_crf", "data=sample_ner", "--folder", str(folder), "--target", f"{law(2100):.5f}"]
    assert main(["forecast", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["70", "sentences", "test/f1", f"{law(70):.4f}"]
    assert lines[-2].startswith("about 1,400 (1,400 to 1,400) more sentences to 0.876")
    common = ["model=gru_crf", "data=sample_ner"]
    off = ["seed=1", "tracking=off", "export=off"]
    assert trained[0] == ([*common, "limit.train=0.1", *off], "train=0.1,seed=1")
    assert len(trained) == 5
    found = json.loads((folder / "forecast.json").read_text())
    assert found["scores"][0] == pytest.approx(
        {"sentences": 1050, "low": law(1050), "median": law(1050), "high": law(1050)}, abs=1e-3
    )
    assert (folder / "forecast.png").stat().st_size > 1000


def test_a_target_may_be_reached_or_out_of_reach():
    curve = LearningCurve([100, 200, 400, 700], [law(size) for size in (100, 200, 400, 700)])
    assert forecast.report(curve, 700, 0.8)[-1] == "0.8 is reached by the 700 sentences that there are"
    assert "0.95 is out of reach" in forecast.report(curve, 700, 0.95)[-1]
    assert len(forecast.report(curve, 700, None)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data=sample_ner --shares 0.1,1", "--shares: '0.1,1' must be at least three shares"),
        ("data=sample_ner --shares 0.1,0.5,1", "--shares 3, --seeds 1: at least four runs are needed"),
        ("model=ibm1", "model=ibm1: is no tagger"),
        ("data=sample_ner limit.train=0.5", "limit.train: not here; --shares says"),
        ("data=conll data.path=nowhere", "data.path: nowhere is not a folder"),
        ("modle=x", "modle: no such key; did you mean model?"),
    ],
)
def test_a_mistake_is_one_line(trained, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(["forecast", *arguments.split()])
    except SystemExit as stopped:
        status = stopped.code
    said = capsys.readouterr()
    assert status == 2 and not trained and said.out == "" and said.err.count("\n") == 1
    assert message in said.err
    assert list(tmp_path.iterdir()) == []


def test_smaller_shares_of_the_training_part_are_in_larger_ones():
    def train(*overrides):
        parts = Tagging(configured("model=bilstm_crf", "data=sample_ner", *overrides)).read().parts
        assert len(parts["dev"]) == 120
        return [sentence.lines[0] for sentence in parts["train"]]

    small, large, other = train("limit.train=0.1"), train("limit.train=0.3"), train("limit.train=0.1", "seed=2")
    assert (len(small), len(large)) == (70, 210) and set(small) < set(large) and small != other
    assert small == sorted(small)
    with pytest.raises(InputError, match=r"limit.train=0.5: has no effect on model=lstm_lm"):
        from trellis.pipelines.language_modeling import LanguageModeling

        LanguageModeling(configured("model=lstm_lm", "limit.train=0.5"))
