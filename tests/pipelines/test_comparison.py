"""`trellis compare`: paired tests on the segments that runs were scored on."""

import json
import re

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.pipelines.runs import configured
from trellis.components.metrics import segments
from trellis.components.metrics.breakdown import divide
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.metrics.significance import Bootstrap, paired_bootstrap, paired_randomization, seed_test
from trellis.pipelines import compare, comparison, seeds
from trellis.pipelines.tracking.parent_run import RUN_FILE


@pytest.fixture
def write_run(tmp_path):
    """A function that writes what a finished run leaves behind for comparisons."""

    def write_run(name, correct, *overrides, seed=1, gold="gold", kinds=None, documents=None):
        folder = tmp_path / name
        (folder / ".hydra").mkdir(parents=True)
        typed = [*overrides, f"seed={seed}"]
        OmegaConf.save(configured(*typed), folder / ".hydra/config.yaml")
        OmegaConf.save(OmegaConf.create(typed), folder / ".hydra/overrides.yaml")
        (folder / "metrics.json").write_text(json.dumps({"test/accuracy": float(np.mean(correct))}))
        statistics = np.stack([correct, np.ones(len(correct))], axis=1)
        count = len(correct)
        groups = divide("tag", kinds, range(count), statistics, np.ones(count), count) if kinds else ()
        scored = ScoredSegments("test", "accuracy", statistics, segments.digest([gold]), groups, documents)
        segments.save(folder / "segments.npz", scored)
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
    assert compare.main([str(run) for run in runs]) == 0
    table = capsys.readouterr().out.split("test/accuracy, difference from model=hmm, 400 segments:")[1]
    better, equal = (next(line for line in table.splitlines() if model in line) for model in ("memm", "bilstm_crf"))
    assert float(better.split()[1]) > 0.1 and float(better.split()[-2].lstrip("<")) < 0.01
    assert float(equal.split()[1]) == 0 and float(equal.split()[-2]) > 0.05


def test_runs_on_other_data_and_runs_without_statistics_are_named(write_run, capsys):
    one, other = write_run("one", [1.0, 0.0], "model=hmm"), write_run("other", [1.0, 1.0], "model=memm", gold="another")
    assert compare.main([str(one), str(other)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not scored on the same data" in said
    for name in (segments.digest(["gold"]), segments.digest(["another"])):
        assert name in said
    (other / "segments.npz").write_bytes(b"PK broken")
    assert compare.main([str(one), str(other)]) == 2
    assert "other/segments.npz: not statistics of segments" in capsys.readouterr().err
    (other / "segments.npz").unlink()
    assert compare.main([str(one), str(other)]) == 2
    assert "no such file" in capsys.readouterr().err
    # A sweep over datasets is a table all the same.
    assert compare.main([str(one.parent)]) == 0
    assert "interval" not in capsys.readouterr().out


def test_seeds_of_a_configuration_count_together(write_run):
    folders = [
        [write_run(f"{model}{seed}", right, f"model={model}", seed=seed) for seed, right in enumerate(runs)]
        for model, runs in {"hmm": ([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]), "memm": ([1.0] * 4, [1.0] * 4)}.items()
    ]
    compared = comparison.compare(folders)
    assert compared.scores == [[0.5, 0.25], [1.0, 1.0]]
    (difference,) = compared.differences
    assert difference.bootstrap.difference == pytest.approx(1 - 0.375)
    assert difference.seeds.low < difference.bootstrap.difference < difference.seeds.high
    assert comparison.compare([folders[0][:1], folders[1]]).differences[0].seeds is None


def test_where_a_run_leaves_its_results_makes_no_configuration(write_run):
    for seed in (1, 2):
        places = f"export.dir=exports/s{seed}", f"tracking.experiment=e{seed}", f"export.upload=file:///u{seed}"
        write_run(f"hmm{seed}", [1.0, 0.0], "model=hmm", *places, seed=seed)
    folder = write_run("memm", [1.0, 1.0], "model=memm", "tracking=off", "export.precision=0.9").parent
    groups = seeds.collect([folder])
    assert [(group.label, len(group.folders)) for group in groups] == [
        ("model=hmm", 2),
        ("model=memm export.precision=0.9", 1),
    ]
    assert seeds.label_differences(groups) == ([], ["model=hmm", "model=memm export.precision=0.9"])


def test_the_variance_over_seeds_makes_a_difference_less_sure():
    bootstrap = Bootstrap(0.02, 0.01, 0.03, 0.001, deviation=0.005)
    alike = seed_test(bootstrap, [0.70, 0.70, 0.70], [0.72, 0.72, 0.72])
    spread = seed_test(bootstrap, [0.68, 0.70, 0.72], [0.70, 0.72, 0.74])
    # By hand: four standard errors of a normal distribution; then 0.02 / sqrt(0.005² + 2 · 0.02² / 3), 4.8 degrees.
    assert alike.p_value == pytest.approx(6.3e-5, rel=0.01)
    assert (alike.low, alike.high) == (pytest.approx(0.02 - 1.96 * 0.005, abs=1e-5), pytest.approx(0.0298, abs=1e-5))
    assert spread.p_value == pytest.approx(0.2966, abs=0.0005) and spread.low < 0 < spread.high
    assert seed_test(bootstrap._replace(difference=0.0, deviation=0.0), [0.7, 0.7], [0.7, 0.7]).p_value == 1.0


def test_documents_are_resampled_where_there_are_enough(write_run):
    rng = np.random.default_rng(0)
    # A document is right or wrong as a whole: forty of them say less than four hundred sentences would.
    runs = [np.repeat(rng.random(40) < share, 10).astype(float) for share in (0.5, 0.6)]
    deviations = {}
    for name, documents in {"none": None, "few": np.arange(400) // 100, "many": np.arange(400) // 10}.items():
        folders = [[write_run(f"{name}{i}", run, f"seed={i}", documents=documents)] for i, run in enumerate(runs)]
        compared = comparison.compare(folders)
        deviations[name] = compared.differences[0].bootstrap.deviation
        assert compared.units == "400 segments" + (" in 40 documents" if name == "many" else "")
    assert deviations["none"] == deviations["few"] < deviations["many"] / 2


def test_scores_are_broken_down_on_the_terminal_and_on_a_page(write_run, tmp_path, capsys):
    kinds = ["rare<"] * 20 + ["often"] * 80
    one, other = np.zeros(100), np.ones(100)
    other[20:] = one[20:] = np.arange(80) % 2
    runs = [
        str(write_run("one", one, "model=hmm", kinds=kinds)),
        str(write_run("other", other, "model=memm", kinds=kinds)),
    ]
    assert compare.main([*runs, "--breakdown", "--html", str(tmp_path / "page.html")]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["often"] == ["80", "0.5000", "0.5000"] and rows["rare<"] == ["20", "0.0000", "1.0000*"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http" not in page and "rare&lt;" in page and "<span class=g>+1.0000</span>" in page
    for tag in ("table", "tr", "td", "th", "svg", "span", "h2"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
    (tmp_path / "other" / "segments.npz").unlink()
    assert compare.main([*runs, "--html", str(tmp_path / "other.html")]) == 2
    assert not (tmp_path / "other.html").exists()


def test_groups_that_runs_divide_differently_are_left_out(write_run, capsys):
    runs = [
        str(write_run(model, np.ones(4), f"model={model}", kinds=kinds))
        for model, kinds in {"hmm": ["a", "a", "b", "b"], "memm": ["a", "b", "b", "b"]}.items()
    ]
    assert compare.main([*runs, "--breakdown"]) == 0
    assert "no scores by tag: it differs between the runs" in capsys.readouterr().out


def test_what_cannot_be_compared_is_one_line(write_run, tmp_path, capsys):
    runs = [str(write_run(f"seed{seed}", [1.0, 0.0], "model=hmm", seed=seed)) for seed in (1, 2)]

    def error(*arguments):
        assert compare.main(list(arguments)) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "--html: all runs have the same settings" in error(*runs, "--html", str(tmp_path / "page.html"))
    other = write_run("other", [1.0, 1.0], "model=memm")
    assert "were not tracked" in error(*runs, str(other), "--mlflow", "--html", str(tmp_path / "page.html"))
    assert "--html: there is no folder" in error(*runs, str(other), "--html", str(tmp_path / "nowhere/page.html"))
    assert not (tmp_path / "page.html").exists()
    (other / ".hydra/config.yaml").unlink()
    assert f"{other}: not a finished run" in error(*runs, str(other))
    (other / "metrics.json").write_text("{")
    assert f"{other}: not a finished run" in error(str(other))


def test_settings_with_brackets_are_shown_as_they_are(write_run, capsys):
    shared = "init_from=[/runs/a,/runs/b]"
    folders = [str(write_run(model, [1.0, 0.0], f"model={model}", shared)) for model in ("lstm_lm", "gru_lm")]
    assert compare.main(folders) == 0
    assert f"2 runs: {shared}" in " ".join(capsys.readouterr().out.split())


def test_a_run_that_is_named_twice_counts_once(write_run, capsys):
    run = write_run("one", [1.0, 0.0], "model=hmm")
    assert compare.main([str(run), str(run.parent)]) == 0
    assert "1 run:" in capsys.readouterr().out


def test_mlflow_gets_a_comparison_as_a_run_of_its_own(write_run, tmp_path, database, capsys):
    import mlflow

    uri = database(tmp_path)
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("test of comparisons", tmp_path.joinpath("artifacts").as_uri())
    runs = []
    for model, right in {"hmm": [1.0, 0.0], "memm": [1.0, 1.0]}.items():
        folder = write_run(model, right, f"model={model}", f"tracking.uri={uri}")
        (folder / RUN_FILE).write_text(client.create_run(experiment).info.run_id)
        runs.append(folder)
    assert compare.main([*map(str, runs), "--mlflow"]) == 0
    run_id = re.search(r"tracked  test of comparisons, run (\w+)", capsys.readouterr().out)[1]
    run = client.get_run(run_id)
    assert run.data.tags["trellis.compared"] == " ".join((folder / RUN_FILE).read_text() for folder in runs)
    assert run.info.status == "FINISHED" and "| model=memm | +0.5000 |" in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["test/accuracy/difference/model:3Dmemm"] == 0.5
    assert [each.path for each in client.list_artifacts(run_id)] == ["comparison.html"]
    (tmp_path / "mlflow.db").unlink()
    assert compare.main([*map(str, runs), "--mlflow"]) == 2
    assert "--mlflow: there is no" in capsys.readouterr().err


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


def test_seeds_that_are_better_than_others_are_rarely_called_a_better_configuration():
    """Three trainings each of one model, some of which are luckier than others on every sentence."""
    rng, score, false = np.random.default_rng(2), segments.score_of("accuracy"), {"sentences": 0, "seeds": 0}
    for _ in range(200):
        difficulty = rng.beta(4, 2, 300)
        luck = rng.normal(0, 0.03, (2, 3, 1))
        right = (rng.random((2, 3, 300)) < np.clip(difficulty + luck, 0, 1)).astype(float)
        statistics = np.stack([right, np.ones_like(right)], axis=-1)
        bootstrap = paired_bootstrap(score, *statistics.mean(axis=1), samples=300)
        false["sentences"] += bootstrap.p_value < 0.05
        false["seeds"] += seed_test(bootstrap, *right.mean(axis=2)).p_value < 0.05
    assert false["seeds"] <= 20 < false["sentences"]
