"""The CRF beside tensorflow-addons and pytorch-crf: loss with gradient, Viterbi, memory, and growth with time steps.

python -m benchmarks.crf [--peer-python PYTHON] [--rounds 3] [--curve 4096]

Each library runs in processes of its own, in turn, in each of its modes: one or all cores for an operation, compiled by
XLA or not. The best mode of each library counts, by the median over calls; all compute on the same numbers, and have to
agree on the loss. PYTHON is CPython 3.11 with torch, pytorch-crf, tfa-nightly, tf_keras and typeguard<3; what it lacks
is left out.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SHAPES = [(32, 50, 9), (32, 50, 20), (32, 50, 50), (256, 50, 20), (8, 512, 20), (64, 30, 200)]
MEMORY_SHAPES = [(8, 512, 20), (64, 30, 200)]
MODES = {
    "trellis": ["graph", "graph one", "xla", "xla one"],
    "tensorflow-addons": ["graph", "graph one", "xla"],
    "pytorch-crf": ["eager", "eager one"],
}


def numbers(batch, time, tags):
    """Emissions, transitions, gold tags and lengths, the same for every library."""
    import numpy as np

    rng = np.random.default_rng(0)
    emissions, transitions = rng.normal(size=(batch, time, tags)), rng.normal(size=(tags, tags)) * 0.1
    lengths = rng.integers(time // 2, time + 1, batch)
    lengths[0] = time
    gold = rng.integers(0, tags, (batch, time))
    return emissions.astype("float32"), transitions.astype("float32"), gold.astype("int32"), lengths.astype("int32")


def with_tensorflow(library, mode):
    """`shape -> (loss and gradient, decoding)`, functions without arguments."""
    import tensorflow as tf

    xla = mode.startswith("xla")
    if mode.endswith("one"):
        tf.config.threading.set_intra_op_parallelism_threads(1)
    if library == "trellis":
        from components.lattice import linear_chain, paths

        def likelihood(emissions, gold, lengths, transitions):
            chain = lengths, transitions, tf.zeros(len(transitions)), tf.zeros(len(transitions))
            total = linear_chain.log_partition(emissions, *chain, jit_compile=xla)
            return linear_chain.path_score(emissions, gold, *chain) - total

        def best(emissions, lengths, transitions):
            nothing = tf.zeros(len(transitions))
            return paths.viterbi(emissions, lengths, transitions, nothing, nothing, jit_compile=xla)[0]
    else:
        import tensorflow_addons as tfa

        def likelihood(*arguments):
            return tfa.text.crf_log_likelihood(*arguments)[0]

        def best(emissions, lengths, transitions):
            return tfa.text.crf_decode(emissions, transitions, lengths)[0]

    def prepare(shape):
        emissions, transitions, gold, lengths = map(tf.constant, numbers(*shape))

        @tf.function(jit_compile=xla)
        def step(emissions, transitions):
            with tf.GradientTape() as tape:
                tape.watch([emissions, transitions])
                loss = -tf.reduce_mean(likelihood(emissions, gold, lengths, transitions))
            return loss, tape.gradient(loss, [emissions, transitions])

        decode = tf.function(lambda emissions: best(emissions, lengths, transitions), jit_compile=xla)
        # A call from Python would look for the graph that fits; what stands in a training step need not.
        step, decode = step.get_concrete_function(emissions, transitions), decode.get_concrete_function(emissions)
        return lambda: float(step(emissions, transitions)[0]), lambda: decode(emissions).numpy()

    return prepare


def with_torch(mode):
    import torch
    from torchcrf import CRF

    if mode.endswith("one"):
        torch.set_num_threads(1)

    def prepare(shape):
        emissions, transitions, gold, lengths = map(torch.tensor, numbers(*shape))
        crf = CRF(shape[2], batch_first=True)
        with torch.no_grad():
            crf.transitions.copy_(transitions)
            crf.start_transitions.zero_()
            crf.end_transitions.zero_()
        mask = torch.arange(shape[1])[None] < lengths[:, None]
        emissions.requires_grad_()

        def step():
            emissions.grad = None
            crf.zero_grad()
            loss = -crf(emissions, gold.long(), mask=mask, reduction="mean")
            loss.backward()
            return float(loss)

        return step, lambda: crf.decode(emissions, mask=mask)

    return prepare


def measure(function, seconds=0.7):
    """Median milliseconds of a call, after two to warm up."""
    function()
    function()
    times, began = [], time.perf_counter()
    while len(times) < 7 or (time.perf_counter() - began < seconds and len(times) < 200):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def work(library, mode, memory, curve):
    """What a process of one library prints: a line of JSON for each shape."""
    prepare = with_torch(mode) if library == "pytorch-crf" else with_tensorflow(library, mode)
    if memory:
        prepare((2, 3, 4))[0]()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        prepare(memory)[0]()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"shape": memory, "mebibytes": (after - before) / 1024}), flush=True)
        return
    for shape in [(8, 2**power, 20) for power in range(6, curve.bit_length())] if curve else SHAPES:
        step, decode = prepare(shape)
        line = {"shape": shape, "loss": step(), "gradient": measure(step)}
        if not curve:
            line["viterbi"] = measure(decode)
        print(json.dumps(line), flush=True)


def ask(library, mode, python, **options):
    """Runs `work` in a process of its own; the lines it printed."""
    arguments = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
    command = [python, Path(__file__), "--library", library, "--mode", mode, *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parents[1])}
    if library == "tensorflow-addons":
        environment["TF_USE_LEGACY_KERAS"] = "1"
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


def report(options):
    pythons = {"trellis": sys.executable}
    results = {}  # (library, mode) -> shape -> what -> times
    for _ in range(options.rounds):
        for library, modes in MODES.items():
            for mode in modes:
                for line in ask(library, mode, pythons.get(library, options.peer_python)):
                    place = results.setdefault((library, mode), {}).setdefault(tuple(line.pop("shape")), {})
                    for what, value in line.items():
                        place.setdefault(what, []).append(value)
    losses = {}
    for (library, mode), shapes in results.items():
        for shape, values in shapes.items():
            losses.setdefault(shape, []).extend(values["loss"])
            if max(losses[shape]) - min(losses[shape]) > 1e-3 * abs(losses[shape][0]):
                sys.exit(f"{library} ({mode}) disagrees on the loss of {shape}: {losses[shape]}")

    def best(library, shape, what, xla):
        found = [
            statistics.median(shapes[shape][what])
            for (name, mode), shapes in results.items()
            if name == library and (xla or not mode.startswith("xla")) and shape in shapes
        ]
        return min(found, default=None)

    peers = [library for library in MODES if library != "trellis"]
    for what, label in (("gradient", "loss and gradient, ms"), ("viterbi", "Viterbi, ms")):
        print(
            f"\n{label:<24}{'trellis':>9}{'with XLA':>10}"
            + "".join(f"{peer:>20}{'ratio':>7}{'XLA':>7}" for peer in peers)
        )
        ratios = {(peer, xla): [] for peer in peers for xla in (False, True)}
        for shape in SHAPES:
            mine = [best("trellis", shape, what, False), best("trellis", shape, what, True)]
            row = f"{shape!s:<24}{mine[0]:>9.2f}{mine[1]:>10.2f}"
            for peer in peers:
                theirs = best(peer, shape, what, True)
                if theirs is None:
                    row += f"{'not installed':>20}{'':>14}"
                    continue
                for xla in (False, True):
                    ratios[peer, xla].append(theirs / mine[xla])
                row += f"{theirs:>20.2f}{theirs / mine[0]:>7.1f}{theirs / mine[1]:>7.1f}"
            print(row)
        means = {key: math.exp(statistics.fmean(map(math.log, each))) for key, each in ratios.items() if each}
        row = f"{'geometric mean':<43}"
        for peer in peers:
            row += f"{'':>20}" + "".join(f"{means[peer, xla]:>7.1f}" for xla in (False, True) if (peer, xla) in means)
        print(row)

    print(f"\n{'peak memory, MiB':<24}" + "".join(f"{library:>20}" for library in MODES))
    for shape in MEMORY_SHAPES:
        row = f"{shape!s:<24}"
        for library, modes in MODES.items():
            lines = ask(library, modes[0], pythons.get(library, options.peer_python), memory=shape)
            row += f"{lines[0]['mebibytes']:>20.1f}" if lines else f"{'not installed':>20}"
        print(row)

    print(f"\n{'time steps, 8 × … × 20':<24}{'graph, ms':>12}{'µs a step':>12}{'XLA, ms':>12}{'µs a step':>12}")
    curves = [ask("trellis", mode, sys.executable, curve=options.curve or 4096) for mode in ("graph one", "xla one")]
    for graph, xla in zip(*curves, strict=True):
        steps = graph["shape"][1]
        row = "".join(f"{each['gradient']:>12.2f}{1000 * each['gradient'] / steps:>12.2f}" for each in (graph, xla))
        print(f"{steps:<24}{row}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--curve", type=int, help="longest sequence of the growth curve (4096)")
    for hidden in ("--library", "--mode"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library:
        work(options.library, options.mode, options.memory, options.curve)
    else:
        report(options)


if __name__ == "__main__":
    main()
