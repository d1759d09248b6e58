"""An n-gram model in an ARPA file: ours beside KenLM.

python -m benchmarks.arpa MODEL.arpa TEST --peer-python PYTHON [--rounds 5]

Both read the same file and score the same lines, each in a process of its own. They have to agree on every line to
1e-5 nats a word. PYTHON has kenlm. Bytes are those of our tables, and those by which the process of KenLM grows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROWS = 64  # lines that ours scores at once
PEER = """
import json, math, sys, time
import kenlm
path, lines, rounds = sys.argv[1], open(sys.argv[2], encoding="utf-8").read().split("\\n")[:-1], int(sys.argv[3])
def resident():
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])


before, began = resident(), time.perf_counter()
model = kenlm.Model(path)
found = {"reading": time.perf_counter() - began, "bytes": resident() - before, "seconds": []}
for _ in range(rounds):
    began = time.perf_counter()
    scores = [model.score(line) for line in lines]
    found["seconds"].append(time.perf_counter() - began)
print(json.dumps(found | {"nats": [-score * math.log(10) for score in scores]}))
"""


def ours(path: str, lines: list[str], rounds: int) -> dict[str, object]:
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import numpy as np
        import tensorflow as tf

        from trellis.components.models import arpa
        from trellis.components.models.ngram import NGram

    began = time.perf_counter()
    words, tables = arpa.read(path)
    model = NGram(len(words) + 3, len(tables.log_probability))
    model.assign(tables)
    reading = time.perf_counter() - began
    size = sum(variable.value.dtype.size * int(np.prod(variable.shape)) for variable in model.variables)
    ids = {"<unk>": 1, **{word: index for index, word in enumerate(words, 3)}}
    rows = [[ids.get(word, 1) for word in line.split(" ") if word] + [2] for line in lines]

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def score(targets):
        before = tf.pad(targets[:, :-1], [[0, 0], [1, 0]], constant_values=2)
        features, _ = model.read(before, model.initial_states(tf.shape(targets)[0]))
        return tf.reduce_sum(tf.where(targets > 0, model.token_log_probabilities(features, targets), 0.0), axis=1)

    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    batches = [
        tf.ragged.constant([rows[row] for row in order[first : first + ROWS]], tf.int32).to_tensor(0)
        for first in range(0, len(order), ROWS)
    ]
    score(batches[0])
    seconds, nats = [], np.zeros(len(rows))
    for _ in range(rounds):
        began = time.perf_counter()
        nats[order] = -np.concatenate([score(batch).numpy() for batch in batches])
        seconds.append(time.perf_counter() - began)
    return {"reading": reading, "bytes": size, "seconds": seconds, "nats": nats.tolist()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("test")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    lines = Path(arguments.test).read_text(encoding="utf-8").split("\n")[:-1]
    command = [arguments.peer_python, "-c", PEER, arguments.model, arguments.test, str(arguments.rounds)]
    theirs = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
    found = ours(arguments.model, lines, arguments.rounds)
    with open(arguments.model, encoding="utf-8") as file:
        grams = sum(int(line.split("=")[1]) for line in file if line.startswith("ngram "))
    sizes = [len(line.split()) + 1 for line in lines]
    words = sum(sizes)
    most = max(abs(a - b) / size for a, b, size in zip(found["nats"], theirs["nats"], sizes, strict=True))
    print(f"{grams:,} n-grams, {len(lines):,} lines, {words:,} words; largest difference {most:.1e} nats a word")
    if most > 1e-5:
        sys.exit("they do not agree")
    print(f"{'':<24}{'trellis':>12}{'kenlm':>12}{'ratio':>8}")
    rates = [words / statistics.median(each["seconds"]) for each in (found, theirs)]
    print(f"{'words/s':<24}{rates[0]:>12,.0f}{rates[1]:>12,.0f}{rates[0] / rates[1]:>8.2f}")
    reading = found["reading"], theirs["reading"]
    print(f"{'seconds to read':<24}{reading[0]:>12.2f}{reading[1]:>12.2f}{reading[1] / reading[0]:>8.2f}")
    stored = found["bytes"] / grams, theirs["bytes"] / grams
    print(f"{'bytes an n-gram':<24}{stored[0]:>12.1f}{stored[1]:>12.1f}{stored[1] / stored[0]:>8.2f}")


if __name__ == "__main__":
    main()
