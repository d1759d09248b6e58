"""`trellis compare`: paired tests on the segments that runs were scored on."""

import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.pipelines.runs import configured
from trellis.components.metrics import segments
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.metrics.significance import paired_bootstrap, paired_randomization
from trellis.pipelines import comparison, seeds


@pytest.fixture
def write_run(tmp_path):
    """A function that writes what a finished run leaves behind for comparisons."""

    def write_run(name, correct, *overrides, seed=1, gold="gold"):
        folder = tmp_path / name
        (folder / ".hydra").mkdir(parents=True)
        typed = [*overrides, f"seed={seed}"]
        OmegaConf.save(configured(*typed), folder / ".hydra/config.yaml")
        OmegaConf.save(OmegaConf.create(typed), folder / ".hydra/overrides.yaml")
        (folder / "metrics.json").write_text(json.dumps({"test/accuracy": float(np.mean(correct))}))
        statistics = np.stack([correct, np.ones(len(correct))], axis=1)
        segments.save(folder / "segments.npz", ScoredSegments("test", "accuracy", statistics, segments.digest([gold])))
        return folder

    return write_run


def test_a_better_configuration_is_better_and_an_equal_one_is_not(write_run, capsys):
    rng = np.random.default_rng(0)
    base = rng.random(400) < 0.6
    runs = [
        write_run("a1", base, "model=hmm", seed=1),
        write_run("a2", base[::-1], "model=hmm", seed=2),
        write_run("b", base | (rng.random(400) < 0.4), "model=memm"),
        write_run("c", rng.permutation(base), "model=bilstm_crf"),
    ]
    assert seeds.main([str(run) for run in runs]) == 0
    table = capsys.readouterr().out.split("test/accuracy beside model=hmm, 400 segments of test:")[1]
    better, equal = (next(line for line in table.splitlines() if model in line) for model in ("memm", "bilstm_crf"))
    assert float(better.split()[1]) > 0.1 and float(better.split()[-1]) < 0.01
    assert float(equal.split()[1]) == 0 and float(equal.split()[-1]) > 0.05


def test_runs_on_other_data_and_runs_without_statistics_are_named(write_run, capsys):
    one, other = write_run("one", [1.0, 0.0], "model=hmm"), write_run("other", [1.0, 1.0], "model=memm", gold="another")
    assert seeds.main([str(one), str(other)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not scored on the same data" in said
    for name in (segments.digest(["gold"]), segments.digest(["another"])):
        assert name in said
    (other / "segments.npz").write_bytes(b"PK broken")
    assert seeds.main([str(one), str(other)]) == 2
    assert "other/segments.npz: not statistics of segments" in capsys.readouterr().err
    (other / "segments.npz").unlink()
    assert seeds.main([str(one), str(other)]) == 2
    assert "no such file" in capsys.readouterr().err
    # A sweep over datasets is a table all the same.
    assert seeds.main([str(one.parent)]) == 0
    assert "interval" not in capsys.readouterr().out


def test_seeds_of_a_configuration_count_together(write_run):
    folders = [write_run(f"seed{seed}", [float(seed == 1), 1.0], "model=hmm", seed=seed) for seed in (1, 2)]
    assert comparison.pooled(folders).statistics.tolist() == [[0.5, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("test", ["bootstrap", "randomization"])
def test_models_that_differ_by_chance_alone_are_rarely_called_different(test):
    """Two trainings of one model: each sentence is right in one of them as often as in the other."""
    rng, score, false = np.random.default_rng(1), segments.score_of("f1"), 0
    for _ in range(200):
        gold, difficulty = rng.poisson(2, 150), rng.beta(4, 2, 150)
        pair = [np.stack([rng.binomial(gold, difficulty), gold, gold], axis=1).astype(float) for _ in range(2)]
        if test == "bootstrap":
            p_value = paired_bootstrap(score, *pair, samples=300).p_value
        else:
            p_value = paired_randomization(score, *pair, trials=300)
        false += p_value < 0.05
    assert 2 <= false <= 20  # 10 are expected; all but one of a thousand binomials lie within
