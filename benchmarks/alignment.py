"""Word alignment beside NLTK, eflomal and fast_align: speed, memory and growth, and error rates.

python -m benchmarks.alignment [--peer-python PYTHON] [--fast-align BINARY] [--data FOLDER] [--pairs 100000]
    [--rounds 3]

Speed: an iteration of EM in both directions, on sentence pairs drawn from Multi30k, English and Czech (FOLDER is where
the corpora are; by default $TRELLIS_DATA). Ours and the peers take turns, and of each the fastest of ROUNDS is printed.
fast_align, given a BINARY, is timed by what one more iteration of its Model 1 takes. Error rates: `train.py
experiment=…` beside eflomal, whose alignments of both directions are symmetrised by the same code, on words and on
their beginnings. PYTHON has nltk and eflomal; what it lacks is left out.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.tagging import ROOT
from trellis.components.readers import bitext

NLTK = """
import json, sys, time
from nltk.translate import AlignedSent, IBMModel1

class Timed(IBMModel1):
    times = []

    def train(self, pairs):
        began = time.perf_counter()
        super().train(pairs)
        self.times.append(time.perf_counter() - began)

Timed([AlignedSent(target, source) for source, target in json.load(open(sys.argv[1]))], 3)
print(sorted(Timed.times)[1])
"""
EFLOMAL = """
import sys
import eflomal

source, target, forward, reverse = sys.argv[1:]
with open(source) as s, open(target) as t:
    eflomal.Aligner().align(s, t, links_filename_fwd=forward, links_filename_rev=reverse, quiet=True)
"""


def drawn(folder, count):
    """Sentence pairs of Multi30k, as many as one likes."""
    pairs = list(bitext.read_parallel(folder / "multi30k/train.en.gz", folder / "multi30k/train.cs.gz"))
    rng = np.random.default_rng(0)
    return (
        pairs[row] for done in range(0, count, 2**16) for row in rng.integers(0, len(pairs), min(2**16, count - done))
    )


def work(folder, count, iterations, on_disk):
    """What a process of ours prints: seconds of indexing and of an iteration, pairs of words, and peak memory."""
    import keras
    import tensorflow as tf

    from trellis.components.alignment.co_occurrence import CoOccurrence
    from trellis.components.alignment.token_pairs import TokenPairs
    from trellis.components.models.word_aligner import WordAligner, batch_cells

    # As the pipeline chooses them.
    cores = os.cpu_count() or 2
    tf.config.threading.set_intra_op_parallelism_threads(max(1, cores // 2))
    tf.config.threading.set_inter_op_parallelism_threads(max(2, cores))
    pairs = drawn(folder, count)
    began = time.perf_counter()
    tokens = TokenPairs(folder=on_disk)
    for pair in pairs:
        tokens.add(pair.source, pair.target)
    sizes = [len(side) for side in tokens.tokens]
    grid = CoOccurrence(tokens.chunks(), *sizes, cells=batch_cells(iterations), folder=on_disk)
    indexing = time.perf_counter() - began
    model = WordAligner(len(grid.words.source), *sizes, iterations=iterations)
    model.adapt(grid.words, batches=len(grid.batches))
    model.compile(steps_per_execution=len(grid.batches))
    ends = [time.perf_counter()]
    clock = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    model.fit(grid.dataset(), epochs=12, callbacks=[clock], verbose=0, shuffle=False)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    line = {
        "indexing": indexing,
        "iteration": statistics.median(np.diff(ends[1:])),
        "five": indexing + ends[5] - ends[0],
        "cells": grid.cells,
        "memory": memory,
    }
    print(json.dumps(line), flush=True)


def ask(folder, count, on_disk=None, **iterations):
    """Runs `work` in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.alignment", "--data", folder, "--work",
        json.dumps([count, iterations, on_disk]),
    ]  # fmt: skip
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def available(python, module):
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def nltk(python, pairs):
    """Seconds of an iteration on these pairs, one direction."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([pair[:2] for pair in pairs], file)
        file.flush()
        done = subprocess.run([python, "-c", NLTK, file.name], capture_output=True, text=True, check=True)
    return float(done.stdout)


def fast_align(binary, pairs):
    """Seconds of whole runs of one and of five iterations of its Model 1, one direction."""
    times = []
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(f"{' '.join(pair.source)} ||| {' '.join(pair.target)}\n" for pair in pairs)
        file.flush()
        for iterations in (1, 5):
            began = time.perf_counter()
            command = [binary, "-i", file.name, "-I", str(iterations)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            times.append(time.perf_counter() - began)
    return times


def speed(folder, count, python, binary, rounds):
    pairs, ours, theirs = list(drawn(folder, count)), [], []
    compared = available(python, "nltk")
    for _ in range(rounds):
        ours.append(ask(folder, count, ibm1=12))
        if compared:
            theirs.append(2 * nltk(python, pairs))
    one = {name: min(each[name] for each in ours) for name in ours[0]}
    hmm = ask(folder, count, hmm=12)
    print(f"{count:,} pairs, {one['cells']:,} pairs of words; both directions")
    print(f"{'trellis':<12}{'numbering':>12}{one['indexing']:>10.2f} s")
    print(f"{'':<12}{'Model 1':>12}{one['iteration']:>10.3f} s an iteration; with numbering, five {one['five']:.2f} s")
    print(f"{'':<12}{'HMM':>12}{hmm['iteration']:>10.3f} s an iteration")
    if theirs:
        ratio = min(theirs) / one["iteration"]
        print(f"{'NLTK':<12}{'Model 1':>12}{min(theirs):>10.1f} s an iteration; ratio {ratio:.0f}")
    if binary:
        first, five = (2 * min(each) for each in zip(*(fast_align(binary, pairs) for _ in range(rounds)), strict=True))
        iteration = (five - first) / 4
        ratio = iteration / one["iteration"]
        line = f"{iteration:>10.2f} s an iteration; ratio {ratio:.1f}; five {five:.2f} s"
        print(f"{'fast_align':<12}{'Model 1':>12}{line}")
    print(f"\n{'pairs':>10}{'numbering, s':>14}{'iteration, s':>14}{'µs a pair':>12}{'peak, GiB':>12}")
    sizes = (10_000, 100_000, 1_000_000)
    with tempfile.TemporaryDirectory() as place:
        for size, on_disk in [*((each, None) for each in sizes), *((each, place) for each in (*sizes, 4_000_000))]:
            each = ask(folder, size, on_disk, ibm1=12)
            row = f"{size:>10,}{each['indexing']:>14.2f}{each['iteration']:>14.3f}"
            row += f"{1e6 * each['iteration'] / size:>12.2f}{each['memory']:>12.2f}"
            print(row + ("  batches on disk" if on_disk else ""), flush=True)


def eflomal(python, pairs, beginnings):
    """Links of each pair in both directions; words cut to their beginnings, of so many letters, or None."""
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / name for name in ("source", "target", "forward", "reverse")]
        for side in (0, 1):
            size = beginnings and beginnings[side]
            lines = (" ".join(word.lower()[:size] for word in pair[side]) + "\n" for pair in pairs)
            files[side].write_text("".join(lines), encoding="utf-8")
        subprocess.run([python, "-c", EFLOMAL, *files], check=True, capture_output=True)
        return [
            [{tuple(map(int, link.split("-"))) for link in line.split()} for line in file.read_text().split("\n")]
            for file in files[2:]
        ]


def symmetrized(pairs, forward, reverse, method):
    """Links of both directions as one alignment."""
    import tensorflow as tf

    from trellis.components.alignment.symmetrization import METHODS

    symmetrize = tf.function(METHODS[method], autograph=False, reduce_retracing=True)
    for pair, *both in zip(pairs, forward, reverse, strict=False):
        tables = np.zeros((2, 1, len(pair.source), len(pair.target)), bool)
        for table, links in zip(tables, both, strict=True):
            for link in links:
                table[0][link] = True
        yield set(map(tuple, np.argwhere(symmetrize(*map(tf.constant, tables)).numpy()[0]).tolist()))


def error_rates(folder, python):
    from trellis.components.metrics.alignment_scores import link_scores

    peer = available(python, "eflomal")
    print(f"\n{'alignment error rate':<34}{'trellis':>10}{'eflomal':>12}{'beginnings':>12}")
    with tempfile.TemporaryDirectory() as place:
        jobs = [
            ("czenali", f"czenali_{name}") for name in ("ibm1", "fast_align", "hmm", "agreement_words", "agreement")
        ]
        jobs += [(f"xlwa_{language}", "xlwa_agreement") for language in ("es", "it", "nl", "hu")]
        for data, experiment in jobs:
            ran = Path(place) / f"{data}_{experiment}"
            command = [
                sys.executable, ROOT / "train.py", f"experiment={experiment}", f"data={data}", "tracking=off",
                "export=off", f"hydra.run.dir={ran}",
            ]  # fmt: skip
            environment = {**os.environ, "TRELLIS_DATA": str(folder)}
            subprocess.run(command, check=True, capture_output=True, cwd=place, env=environment)
            row = f"{data + ' ' + experiment:<34}{json.loads((ran / 'metrics.json').read_text())['test/aer']:>10.4f}"
            if peer and experiment in ("czenali_agreement", "xlwa_agreement"):
                pairs = read(folder, data)
                for beginnings in (None, (5, 4) if data == "czenali" else (4, 4)):
                    links = eflomal(python, pairs, beginnings)
                    found = symmetrized(pairs, *links, "grow-diag-final-and")
                    scored = [
                        (each, p.sure, p.possible) for each, p in zip(found, pairs, strict=True) if p.sure is not None
                    ]
                    row += f"{link_scores(*zip(*scored, strict=True))['aer']:>12.4f}"
            print(row, flush=True)


def read(folder, data):
    """The pairs of an experiment, gold alignments only where they are scored."""
    from trellis.pipelines import alignment
    from trellis.pipelines.configuration import Tree

    # All of them are wanted as words.
    alignment.EXAMPLES = sys.maxsize
    os.environ["TRELLIS_DATA"] = str(folder)
    bitext = alignment.Alignment(Tree().compose(["model=ibm1", f"data={data}"])).read()
    scored = set(bitext.scored["test"])
    return [pair if row in scored else pair._replace(sure=None) for row, pair in bitext.pairs.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--fast-align", metavar="BINARY")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRELLIS_DATA"))
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.data is None:
        parser.error("--data or $TRELLIS_DATA: the folder of the corpora")
    if options.work:
        work(options.data, *json.loads(options.work))
        return
    folder = options.data.resolve()
    speed(folder, options.pairs, options.peer_python, options.fast_align, options.rounds)
    error_rates(folder, options.peer_python)


if __name__ == "__main__":
    main()
