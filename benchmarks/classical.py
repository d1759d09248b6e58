"""The classical taggers beside hmmlearn and python-crfsuite.

python -m benchmarks.classical [--peer-python PYTHON] [--data FOLDER --crfsuite SCRIPT] [--states 50] [--symbols 10000]

An iteration of EM of the HMM beside hmmlearn's on the same numbers, whose log-likelihoods have to agree; and, with
SCRIPT, `feature_crf` on CoNLL-2003 (FOLDER) beside the tagger that SCRIPT trains with python-crfsuite on the same three
files (it prints `train s …`, and `test F1 … tok/s …`). PYTHON has hmmlearn and python-crfsuite.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.tagging import ROOT, plain_folder

HMMLEARN = """
import json, sys, time
import numpy as np
from hmmlearn.hmm import CategoricalHMM

with np.load(sys.argv[1]) as given:
    states, symbols = given["emissions"].shape
    model = CategoricalHMM(states, init_params="", n_iter=1, n_features=symbols)
    model.startprob_, model.transmat_, model.emissionprob_ = given["start"], given["transitions"], given["emissions"]
    words, lengths = given["words"].reshape(-1, 1), given["lengths"]
score = model.score(words, lengths)
times = []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    model.fit(words, lengths)
    times.append(time.perf_counter() - began)
print(json.dumps({"log_likelihood": score, "seconds": sorted(times)[len(times) // 2]}))
"""


def em(states, symbols, sentences, length, rounds, python):
    """Log-likelihood and seconds of an iteration: ours and hmmlearn's."""
    import keras
    import tensorflow as tf

    from trellis.components.models.hidden_markov import hmm

    tf.config.threading.set_intra_op_parallelism_threads(1)
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.dirichlet(np.ones(shape[-1]), shape[:-1])  # noqa: E731
    start, transitions, emissions = draw(states), draw(states, states), draw(states, symbols)
    words = rng.integers(0, symbols, (sentences, length))

    keras.utils.set_random_seed(0)
    smoothing = {"words": 0.0, "transitions": 0.0}
    # Ids 0 and 1 are padding and the unknown word.
    features = {"words": symbols + 2, "attributes": 2}
    model = hmm(features, states, templates=["pattern", "suffix1"], smoothing=smoothing)
    head, layer = model.get_layer("head"), model.get_layer("emissions")
    table = np.zeros((states + 1, states + 1), np.float32)
    table[:-1, :-1], table[-1, :-1] = np.log(transitions), np.log(start)  # and hmmlearn has no last tag to score
    head.table.assign(table)
    layer.word_table.assign(np.log(np.vstack([np.ones((2, states)), emissions.T])))
    batch = 500
    model.compile(steps_per_execution=-(-sentences // batch))
    inputs = {"words": words + 2, "attributes": np.zeros((sentences, length, 2), np.int32)}
    data = tf.data.Dataset.from_tensor_slices(inputs).batch(batch).cache()
    times, likelihood = [], None
    for _ in range(rounds + 1):
        began = time.perf_counter()
        loss = model.fit(data, epochs=1, verbose=0, shuffle=False).history["loss"][0]
        times.append(time.perf_counter() - began)
        likelihood = likelihood or -loss * sentences
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "given.npz"
        np.savez(
            file, start=start, transitions=transitions, emissions=emissions, words=words,
            lengths=np.full(sentences, length),
        )  # fmt: skip
        done = subprocess.run(
            [python, "-c", HMMLEARN, file, str(rounds)], capture_output=True, text=True, check=True
        ).stdout
    theirs = json.loads(done.splitlines()[-1])
    return likelihood, sorted(times[1:])[rounds // 2], theirs["log_likelihood"], theirs["seconds"]


def feature_crf(folder, epochs):
    """F1 on test, seconds of training, tokens/s of tagging, by the command that a user types."""
    with tempfile.TemporaryDirectory() as place:
        command = [
            sys.executable, ROOT / "train.py", "model=feature_crf", "data=conll", f"data.path={folder}",
            f"trainer.epochs={epochs}", "tracking=off", "export=off", f"hydra.run.dir={place}/run",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, cwd=place)
        metrics = json.loads((Path(place) / "run/metrics.json").read_text())
        log = (Path(place) / "run/train.log").read_text()
    tokens = int(re.search(r"train [\d,]+ sentences, ([\d,]+) tokens", log).group(1).replace(",", ""))
    seconds = sum(
        tokens / json.loads(line)["train/tokens_per_second"] for line in re.findall(r"epoch \d+: (\{.*\})", log)
    )
    return metrics["test/f1"], seconds, float(re.search(r"test: (\d+) tokens/s", log).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--crfsuite", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--states", type=int, default=50)
    parser.add_argument("--symbols", type=int, default=10_000)
    options = parser.parse_args()

    mine, seconds, theirs, their_seconds = em(
        options.states, options.symbols, 2000, 25, options.rounds, options.peer_python
    )
    print(f"EM, {options.states} states, {options.symbols} symbols, 50,000 tokens")
    print(f"{'':<16}{'trellis':>14}{'hmmlearn':>14}{'ratio':>8}")
    print(f"{'log-likelihood':<16}{mine:>14.1f}{theirs:>14.1f}{mine / theirs:>8.5f}")
    print(f"{'s an iteration':<16}{seconds:>14.3f}{their_seconds:>14.3f}{their_seconds / seconds:>8.1f}")
    if options.data and options.crfsuite:
        with tempfile.TemporaryDirectory() as place:
            folder = plain_folder(options.data, Path(place))
            f1, trained, speed = feature_crf(folder, options.epochs)
            files = [folder / f"{part}.conll" for part in ("train", "dev", "test")]
            done = subprocess.run(
                [options.peer_python, options.crfsuite, *files], capture_output=True, text=True, check=True
            ).stdout
        their_training = float(re.search(r"train s ([\d.]+)", done).group(1))
        their_f1, their_speed = map(float, re.search(r"test F1 ([\d.]+) tok/s (\d+)", done).groups())
        print(f"\nCoNLL-2003\n{'':<16}{'trellis':>14}{'crfsuite':>14}{'ratio':>8}")
        print(f"{'test F1':<16}{f1:>14.4f}{their_f1:>14.4f}{f1 / their_f1:>8.3f}")
        print(f"{'s of training':<16}{trained:>14.1f}{their_training:>14.1f}{trained / their_training:>8.2f}")
        print(f"{'tagged tokens/s':<16}{speed:>14,.0f}{their_speed:>14,.0f}{speed / their_speed:>8.2f}")


if __name__ == "__main__":
    main()
