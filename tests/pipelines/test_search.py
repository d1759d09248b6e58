"""Searches with Optuna: what is searched, which trials end early, and going on with an interrupted search."""

import json
import re
import socket

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from tests import warm_python
from tests.pipelines.runs import ROOT
from trellis.components.errors import InputError
from trellis.pipelines import search, trial
from trellis.pipelines.command_line import checked

OPTUNA = ("-m", "hydra/sweeper=optuna")


@pytest.mark.parametrize(
    ("written", "distribution"),
    [
        ("interval(10, 20)", FloatDistribution(10, 20)),
        ("int(interval(10, 20))", IntDistribution(10, 20)),
        ("interval(0.1, 0.5)", FloatDistribution(0.1, 0.5)),
        ("interval(0, 0.5)", FloatDistribution(0.0, 0.5)),
        ("int(interval(1.0, 9.0))", IntDistribution(1, 9)),
        ("tag(log, interval(1e-4, 1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("int(tag(log, interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("range(50, 200, 50)", IntDistribution(50, 150, step=50)),
        ("range(0.0, 1.0, 0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("gru,lstm", CategoricalDistribution(["gru", "lstm"])),
        ("choice(0.1, 0.2)", CategoricalDistribution(["0.1", "0.2"])),
        ("shuffle(range(1, 4))", CategoricalDistribution(["1", "2", "3"])),
    ],
)
def test_values_have_the_distribution_that_hydra_users_expect(written, distribution):
    fixed, space = search.divided([f"key={written}", "model=hmm"], {"trainer.epochs": "range(1, 3)"})
    if isinstance(distribution, CategoricalDistribution):
        assert sorted(space["key"].choices) == sorted(distribution.choices)
    else:
        assert space["key"] == distribution
    assert fixed == ["model=hmm"] and space["trainer.epochs"] == IntDistribution(1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "model.units=int(interval(10, 20))"], "an interval is searched, not enumerated; add hydra/sweeper="),
        ([*OPTUNA, "model=hmm"], "nothing to search; give a setting several values"),
        ([*OPTUNA, "seed=1,2", "hydra.sweeper.trials=0"], "hydra.sweeper.trials=0: must be"),
        ([*OPTUNA, "seed=1,2", "hydra.sweeper.sampler=grid"], "hydra.sweeper.sampler=grid: must be"),
        ([*OPTUNA, "model.units=int(interval(0, 20))"], "model.units=0: must be"),
        ([*OPTUNA, "model.units=int(interval(20, 10))"], "model.units=int(interval(20, 10)): "),
        ([*OPTUNA, "model.units=interval(10, 20)"], "at least 1; write int(interval(10, 20))"),
        ([*OPTUNA, "model.units=tag(log, interval(0.0, 1))"], "model.units=0.0: must be"),
        ([*OPTUNA, "+hydra.sweeper.params={model.unit: 'range(1, 3)'}"], "model.unit: no such key; did you mean"),
    ],
)  # fmt: skip
def test_searches_that_cannot_be_are_refused_before_any_trial(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        checked(arguments)


def test_a_trial_that_is_worse_than_the_median_is_pruned(tmp_path, monkeypatch):
    storage = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=storage, study_name="it", direction="maximize")
    for _ in range(5):
        asked = study.ask()
        for epoch in (1, 2, 3):
            asked.report(0.5 + epoch / 10, epoch)
        study.tell(asked, 0.8)
    asked = study.ask()
    address = trial.Address(storage, "it", asked._trial_id, "median", 2)
    trial.report(0.0, 1)  # no trial: nothing happens
    monkeypatch.setenv(trial.VARIABLE, address.to_text())
    trial.report(0.1, 1)
    trial.report(0.75, 2)
    with pytest.raises(trial.Pruned, match="pruned after epoch 3"):
        trial.report(0.2, 3)
    (found,) = study.get_trials(states=[TrialState.RUNNING])
    assert found.user_attrs[trial.PRUNED] == 3 and found.intermediate_values == {1: 0.1, 2: 0.75, 3: 0.2}
    assert not trial.is_abandoned(found)
    study.set_user_attr("unrelated", 1)
    asked.set_user_attr(trial.OWNER, f"{socket.gethostname()}:999999999")
    (found,) = study.get_trials(states=[TrialState.RUNNING])
    assert trial.is_abandoned(found)


def test_a_search_prunes_survives_failures_and_goes_on_where_it_stopped(tmp_path):
    def run(trials, *options):
        return warm_python.python(
            ROOT / "train.py", *OPTUNA, "model=memm", "model.buckets=512", "limit.sentences=20", "trainer.epochs=2",
            "optimizer.learning_rate=tag(log, interval(0.01, 1.0))", "model.l2=choice(0, 1e30)", "export=off",
            f"hydra.sweeper.trials={trials}", "hydra.sweeper.pruner=median", "hydra.sweeper.warm_up=1",
            "tracking=off", *options, cwd=tmp_path,
        )  # fmt: skip

    done = run(2)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("multirun/*/*")
    study = optuna.load_study(study_name="trellis", storage=f"sqlite:///{folder}/study.db")
    assert study.direction.name == "MAXIMIZE" and len(study.trials) == 2
    finished = study.get_trials(states=[TrialState.COMPLETE])
    for each in finished:
        metrics = json.loads((folder / str(each.number) / "metrics.json").read_text())
        assert each.value == pytest.approx(metrics["dev/best"])
        assert each.intermediate_values.keys() == {1, 2}
    assert f"best on dev (dev/f1 {study.best_value:.4f})" in done.stdout
    assert all(f"trial {each.number}: " in done.stderr for each in study.trials) and "TRELLIS_TRIAL" not in done.stderr

    # A trial whose process is gone is finished first, under its own number.
    left = study.ask({"optimizer.learning_rate": FloatDistribution(0.01, 1.0, log=True),
                      "model.l2": CategoricalDistribution(["0", "1e+30"])})  # fmt: skip
    left.set_user_attr(trial.OWNER, f"{socket.gethostname()}:999999999")
    again = run(4, "resume=true")
    assert again.returncode == 0, again.stderr
    assert [each.number for each in study.trials] == list(range(4))
    assert all(each.state.is_finished() for each in study.trials)
    assert list(tmp_path.glob("multirun/*/*")) == [folder]
    complete = study.get_trials(states=[TrialState.COMPLETE])
    differ = len({each.value for each in complete}) > 1
    assert (folder / "importance.png").exists() == (len(complete) == 4 and differ)

    other = run(4, f"hydra.sweeper.storage=sqlite:///{folder}/study.db", "seed=2")
    assert other.returncode == 2 and other.stderr.splitlines()[-1].endswith("give the search another name")
