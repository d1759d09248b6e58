"""Language models beside their peers: an LSTM in PyTorch, n-grams in NLTK.

python -m benchmarks.language [--data FOLDER] [--rounds 3] [--steps 60] [--peer-python PYTHON] [--neural]

The 2 × 200 unit network over 10,000 words, 20 rows of 35 words a step (--units, --rows): training, and generation of
one text and of 64 at once, ours and PyTorch's in turn, each in a process of its own, medians over the rounds. Then
Kneser-Ney on the Penn Treebank (FOLDER): estimation of 3-grams on the whole training part, ours and NLTK's, and
scoring, where NLTK scores --scored words and the time of one word is compared. PYTHON has torch (extra
`bench`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
VOCABULARY, LAYERS, LENGTH, DROPOUT = 10_001, 2, 35, 0.25
GENERATED = {1: 400, 64: 60}  # tokens by rows
ORDER = 3
ESTIMATES = 7


def ours(steps, units, rows):
    """Speeds in tokens/s."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import keras
        import numpy as np
        import tensorflow as tf

        from trellis.components import generation
        from trellis.components.models.language_model import RecurrentLanguageModel

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(0)
    model = RecurrentLanguageModel(
        VOCABULARY, cell="lstm", layers=LAYERS, units=units, dim=units, tied=True,
        dropout={"input": DROPOUT, "between": DROPOUT, "output": DROPOUT, "recurrent": 0.0},
        softmax={"kind": "full", "samples": 1, "cutoffs": []},
    )  # fmt: skip
    model.carry(rows)
    model.compile(keras.optimizers.Adam(0.002, global_clipnorm=0.5), jit_compile=False)
    step = tf.function(model.train_step, autograph=False)
    tokens = tf.constant(np.random.default_rng(0).integers(1, VOCABULARY, (steps, rows, LENGTH)), tf.int32)
    starts, times = tf.zeros([rows], tf.bool), []
    for number in range(steps):
        began = time.perf_counter()
        step(({"tokens": tokens[number], "starts": starts}, tf.roll(tokens[number], -1, 1)))["loss"].numpy()
        times.append(time.perf_counter() - began)
    speeds = {"training": rows * LENGTH / statistics.median(times[5:])}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int64)])
    def generate(prompts, seeds):
        lengths = tf.fill([tf.shape(prompts)[0]], tf.shape(prompts)[1])
        return generation.sample(
            model, prompts, lengths, seeds, count=tf.where(tf.size(seeds) == 1, *GENERATED.values())
        )

    for rows, count in GENERATED.items():
        prompts, seeds = tf.ones([rows, 1], tf.int32), tf.range(rows, dtype=tf.int64)
        generate(prompts, seeds)
        began = time.perf_counter()
        assert generate(prompts, seeds).shape == (rows, count)
        speeds[f"generation {rows}"] = rows * count / (time.perf_counter() - began)
    return speeds


def n_grams(folder, scored):
    """Seconds of estimation, and of scoring one word: `{"trellis": (…, …), "nltk": (…, …)}`."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import numpy as np
        from nltk.lm import KneserNeyInterpolated
        from nltk.lm.preprocessing import padded_everygram_pipeline

        from trellis.components.models.ngram import NGram
        from trellis.components.readers import running_text
        from trellis.components.text.stream import Lines, Stream, vocabulary
        from trellis.components.text.text_part import TextInMemory

    train, test = (running_text.read(next(folder.glob(f"{part}.txt*"))) for part in ("train", "test"))
    vectorizer = vocabulary(TextInMemory(train).counts(), "words")

    def estimate():
        stream = Stream(train, vectorizer, "words")
        began = time.perf_counter()
        model = NGram(len(vectorizer.words) + 2, ORDER)
        model.adapt(stream.ids, stream.lines)
        model.fit()
        return model, time.perf_counter() - began

    estimates = [estimate() for _ in range(ESTIMATES)]
    model, seconds = estimates[-1][0], statistics.median(each for _, each in estimates)
    lines = Lines(Stream(test, vectorizer, "words"))
    rows = np.argsort(lines.lengths)
    batches = [
        lines.batch(rows[at : at + 512], int(lines.lengths[rows[at : at + 512]].max()))
        for at in range(0, len(rows), 512)
    ]
    for _ in range(2):  # the first time warms up
        began = time.perf_counter()
        for _, targets in batches:
            model(targets)
        scoring = time.perf_counter() - began
    found = {"trellis": (seconds, scoring / lines.tokens)}

    theirs = KneserNeyInterpolated(ORDER)
    grams, words = padded_everygram_pipeline(ORDER, train[0])
    began = time.perf_counter()
    theirs.fit(grams, words)
    seconds = time.perf_counter() - began
    asked = [(line[at], line[at - ORDER + 1 : at]) for line in test[0] for at in range(ORDER - 1, len(line))][:scored]
    began = time.perf_counter()
    for word, context in asked:
        theirs.logscore(word, context)
    return found | {"nltk": (seconds, (time.perf_counter() - began) / len(asked))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the Penn Treebank; by default where train.py finds it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--rows", type=int, default=20, help="texts side by side in training")
    parser.add_argument("--neural", action="store_true", help="without the n-grams")
    parser.add_argument("--scored", type=int, default=100, help="words that NLTK scores (100)")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(ours(options.steps, options.units, options.rows)))
        return
    results = {"trellis": [], "pytorch": []}
    sizes = ["--steps", options.steps, "--units", options.units, "--rows", options.rows]
    peer = ROOT / "benchmarks/torch_language_model.py"
    commands = {
        "trellis": [sys.executable, "-m", "benchmarks.language", "--ours", *sizes],
        "pytorch": [options.peer_python, peer, VOCABULARY, options.steps, options.units, options.rows],
    }
    for _ in range(options.rounds):
        for who, command in commands.items():
            command = list(map(str, command))
            output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
            results[who].append(json.loads(output.splitlines()[-1]))
    print(f"{'tokens/s, median of ' + str(options.rounds):<24}{'trellis':>12}{'pytorch':>12}{'ratio':>8}")
    for name in results["trellis"][0]:
        mine, theirs = (statistics.median(each[name] for each in results[who]) for who in results)
        print(f"{name:<24}{mine:>12,.0f}{theirs:>12,.0f}{mine / theirs:>8.2f}", flush=True)
    if options.neural:
        return
    if options.data is None:
        from trellis.components.readers.dataset import locate

        data = yaml.safe_load((ROOT / "conf/data/ptb.yaml").read_text())
        options.data = locate(data["name"], data["files"], None, data["download"])["train"].parent
    found = n_grams(options.data, options.scored)
    print(f"\n{'Kneser-Ney 3-grams':<24}{'trellis':>12}{'nltk':>12}{'ratio':>8}")
    for place, name in enumerate(("s of estimation", "µs to score a word")):
        mine, theirs = (found[who][place] * (1e6 if place else 1) for who in found)
        print(f"{name:<24}{mine:>12,.2f}{theirs:>12,.2f}{theirs / mine:>8,.0f}")


if __name__ == "__main__":
    main()
