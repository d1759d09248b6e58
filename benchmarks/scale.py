"""Models of data that do not fit into memory: their peak memory, and whether reading keeps up with them.

python -m benchmarks.scale [--megabytes 400] [--vocabulary 10000] [--steps 96] [--storage auto] [--folder FOLDER]
python -m benchmarks.scale --sentences 2000000 [--vocabulary 10000] [--steps 96] [--storage auto] [--folder FOLDER]

Writes a text of random words (Zipf's law) and trains `model=lstm_lm` on a quarter and on all of it, each in a process
of its own: it reads the text, feeds steps to no model, trains for some steps, and scores a small dev part. With
--sentences it writes so many sentences with entities instead, and trains `model=bilstm_crf`. The peak is the largest
resident memory of the process. With --storage memory, data are read as small ones are.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FED = 20_000  # steps at most
SENTENCE = 25  # words of a line
SHORTEST, LONGEST = 3, 28  # words of a tagged sentence
HELD_OUT = 20_000  # words of dev


def words_and_shares(vocabulary):
    """Distinct words, and the cumulative shares of all words that they have."""
    import numpy as np

    letters = np.random.default_rng(0).integers(97, 123, (vocabulary, 10), np.uint8).tobytes().decode()
    ends = np.random.default_rng(1).integers(2, 11, vocabulary)
    # A word is letters and its number, so that no two are the same; frequent ones are short.
    spelled = [letters[10 * n : 10 * n + min(ends[n], 1 + n.bit_length() // 2)] for n in range(vocabulary)]
    words = np.array([word + (str(n) if n > 99 else "") for n, word in enumerate(spelled)], dtype=object)
    shares = np.cumsum(1 / np.arange(1, vocabulary + 1))
    return words, shares / shares[-1]


def write_text(path, size, vocabulary, seed):
    """Writes words until the file has a size in bytes."""
    import numpy as np

    rng = np.random.default_rng(seed)
    words, shares = words_and_shares(vocabulary)
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size:
            drawn = words[np.searchsorted(shares, rng.random((2_000, SENTENCE)))]
            written += file.write(
                "".join(" ".join(row) + "\n" for row in drawn[: 1 + int((size - written) / SENTENCE)])
            )


def write_sentences(path, count, vocabulary, seed):
    """Writes sentences whose every seventh distinct word is the name of a person, and every eleventh a place."""
    import numpy as np

    rng = np.random.default_rng(seed)
    words, shares = words_and_shares(vocabulary)
    tags = ["B-PER" if n % 7 == 3 else "B-LOC" if n % 11 == 5 else "O" for n in range(vocabulary)]
    lines = np.array([f"{word} {tag}\n" for word, tag in zip(words, tags, strict=True)], dtype=object)
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, count, 10_000):
            lengths = rng.integers(SHORTEST, LONGEST + 1, min(10_000, count - start))
            drawn = lines[np.searchsorted(shares, rng.random(lengths.sum()))]
            file.write("\n".join("".join(each) for each in np.split(drawn, np.cumsum(lengths)[:-1])) + "\n")


def peak():
    """The largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def child(train, dev, cache, storage, steps, tagged):
    """Trains in this process; returns speeds in tokens/s, seconds, and peaks in GiB."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import keras
        import tensorflow as tf

        from trellis.pipelines import training
        from trellis.pipelines.configuration import Tree
        from trellis.pipelines.language_modeling import LanguageModeling
        from trellis.pipelines.tagging import Tagging

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    path = f"data.path={{train: '{train}', dev: '{dev}'}}"
    chosen = ["model=bilstm_crf", "data=conll"] if tagged else ["model=lstm_lm", "data=text"]
    config = Tree().compose([*chosen, path, f"text.storage={storage}", f"text.cache={cache}"])
    keras.utils.set_random_seed(config.seed)
    found = {"start": peak()}
    task = (Tagging if tagged else LanguageModeling)(config)
    began = time.perf_counter()
    data = task.read()
    found |= {"reading": time.perf_counter() - began, "read": peak()}
    began = time.perf_counter()
    task.read()
    found |= {"reading again": time.perf_counter() - began}
    began = time.perf_counter()
    encoded = task.encode(data)
    batches = task.batch(encoded)
    found |= {"encoding": time.perf_counter() - began, "tokens": batches.tokens}
    cells = batches.tokens / batches.steps

    fed = min(FED, batches.steps)
    began = time.perf_counter()
    for _ in batches.epoch_dataset(lambda: 0).take(fed):
        pass
    found |= {"feeding": fed * cells / (time.perf_counter() - began), "fed": peak()}

    model = task.build(encoded, batches)
    training.compile_model(model, task.loss(encoded, batches), config, batches.steps, 1)
    times = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            times.append(time.perf_counter())

    model.fit(batches.epoch_dataset(lambda: 0).take(steps), verbose=0, shuffle=False, callbacks=[Clock()])
    # The first call compiles; a call makes several steps.
    calls = len(times) - 1
    if calls > 0:
        found["training"] = calls * config.trainer.steps_per_call * cells / (times[-1] - times[0])
    scores = task.evaluator(model, encoded).dev()
    found["dev"] = scores["dev/f1"] if tagged else scores["dev/perplexity"]
    return found | {"peak": peak(), "vocabulary": len(encoded.words) + 2 if tagged else encoded.size}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=400)
    parser.add_argument("--sentences", type=int, help="tagged sentences, instead of a text")
    parser.add_argument("--vocabulary", type=int, default=10_000, help="distinct words of the text")
    parser.add_argument("--steps", type=int, default=96, help="training steps, in calls of 32")
    parser.add_argument("--storage", choices=["auto", "memory", "disk"], default="auto")
    parser.add_argument("--folder", type=Path, help="for the text and the cache; by default a temporary one")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        train, folder = map(Path, options.child)
        tagged = options.sentences is not None
        print(json.dumps(child(train, folder / "dev.txt", folder / "cache", options.storage, options.steps, tagged)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder = Path(place)
        if options.sentences:
            write_sentences(folder / "dev.txt", HELD_OUT // LONGEST, options.vocabulary, 1)
        else:
            write_text(folder / "dev.txt", HELD_OUT * 6, options.vocabulary, 1)
        results = {}
        for name, share in (("a quarter", 0.25), ("all", 1.0)):
            text = folder / "train.txt"
            if options.sentences:
                write_sentences(text, round(share * options.sentences), options.vocabulary, 2)
            else:
                write_text(text, share * options.megabytes * 1e6, options.vocabulary, 2)
            command = [sys.executable, "-m", "benchmarks.scale", "--child", text, folder, "--storage", options.storage]
            command += ["--sentences", options.sentences] if options.sentences else []
            done = subprocess.run(
                [*map(str, command), "--steps", str(options.steps)], capture_output=True, text=True, cwd=ROOT
            )
            if done.returncode:
                sys.exit(done.stderr)
            results[name] = {"megabytes": text.stat().st_size / 1e6} | json.loads(done.stdout.splitlines()[-1])
    rows = {
        "megabytes": "MB of text", "tokens": "tokens", "vocabulary": "ids",
        "start": "GiB after start", "read": "GiB after reading", "fed": "GiB after feeding", "peak": "GiB at the end",
        "reading": "s to read", "reading again": "s to read again", "encoding": "s to encode",
        "feeding": "tokens/s fed", "training": "tokens/s trained",
        "dev": "F1 on dev" if options.sentences else "perplexity on dev",
    }  # fmt: skip
    print(f"{'text.storage=' + options.storage:<24}" + "".join(f"{name:>14}" for name in results))
    for key, title in rows.items():
        digits = 2 if "GiB" in title or "F1" in title else 1 if title.startswith("s ") else 0
        print(
            f"{title:<24}" + "".join(f"{result.get(key, float('nan')):>14,.{digits}f}" for result in results.values())
        )


if __name__ == "__main__":
    main()
