"""The CRF beside tensorflow-addons and pytorch-crf: loss with gradient, Viterbi, memory, and growth with time steps.

python -m benchmarks.crf [--peer-python PYTHON] [--rounds 3] [--curve 4096] [--gpu]

Each library runs in processes of its own, in turn, in each of its modes: one or all cores for an operation, compiled by
XLA or not. The best mode of each library counts, by the median over calls; all compute on the same numbers, and have to
agree on the loss. PYTHON is CPython 3.11 with torch, pytorch-crf, tfa-nightly, tf_keras and typeguard<3; what it lacks
is left out.

With --gpu: larger shapes, each mode in a row, ours through TensorFlow and through JAX, beside pytorch-crf and
pytorch-struct.
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

ROOT = Path(__file__).parents[1]
SHAPES = [(32, 50, 9), (32, 50, 20), (32, 50, 50), (256, 50, 20), (8, 512, 20), (64, 30, 200)]
MEMORY_SHAPES = [(8, 512, 20), (64, 30, 200)]
MODES = {
    "trellis": ["graph", "graph one", "xla", "xla one"],
    "tensorflow-addons": ["graph", "graph one", "xla"],
    "pytorch-crf": ["eager", "eager one"],
}
GPU_SHAPES = [(32, 50, 9), (256, 50, 20), (8, 512, 20), (64, 1024, 9), (64, 30, 200), (1024, 128, 50), (4, 100_000, 9)]
GPU_MODES = {
    "trellis": ["xla", "xla parallel", "xla sequential", "graph"],
    "trellis on jax": ["xla", "xla parallel", "xla sequential"],
    "pytorch-crf": ["eager"],
    "pytorch-struct": ["eager"],
}
LONG = 10_000  # time steps from which decoding is not timed, and one call at a time is not run outside XLA
PATIENCE = 60  # seconds for one mode of one library on a GPU


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
        from trellis.components.lattice import linear_chain, paths

        def likelihood(emissions, gold, lengths, transitions):
            chain = lengths, transitions, tf.zeros(len(transitions)), tf.zeros(len(transitions))
            total = linear_chain.log_partition(emissions, *chain, jit_compile=xla)
            return linear_chain.path_score(emissions, gold, *chain) - total

        def best(emissions, lengths, transitions):
            nothing = tf.zeros(len(transitions))
            return paths.viterbi(emissions, lengths, transitions, nothing, nothing, jit_compile=xla)[0]
    else:
        # The peer, not the module of this name in this folder.
        sys.path = [place for place in sys.path if Path(place or ".").resolve() != ROOT]
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
            return loss, *tape.gradient(loss, [emissions, transitions])

        decode = tf.function(lambda emissions: best(emissions, lengths, transitions), jit_compile=xla)
        # A call from Python would look for the graph that fits; what stands in a training step need not.
        step, decode = step.get_concrete_function(emissions, transitions), decode.get_concrete_function(emissions)

        def whole_step():
            # What is fetched last, on a GPU, has been waited for.
            loss, _, of_transitions = step(emissions, transitions)
            of_transitions.numpy()
            return float(loss)

        return whole_step, lambda: decode(emissions).numpy()

    return prepare


def with_jax():
    """The lattice on the JAX backend of Keras."""
    import jax
    import jax.numpy as jnp

    from trellis.components.lattice import linear_chain, paths

    def prepare(shape):
        emissions, transitions, gold, lengths = map(jnp.asarray, numbers(*shape))
        nothing = jnp.zeros(shape[2])

        def loss(emissions, transitions):
            chain = lengths, transitions, nothing, nothing
            total = linear_chain.log_partition(emissions, *chain)
            return -jnp.mean(linear_chain.path_score(emissions, gold, *chain) - total)

        step = jax.jit(jax.value_and_grad(loss, (0, 1)))
        decode = jax.jit(lambda emissions: paths.viterbi(emissions, lengths, transitions, nothing, nothing)[0])
        return (
            lambda: float(jax.block_until_ready(step(emissions, transitions))[0]),
            lambda: jax.block_until_ready(decode(emissions)),
        )

    return prepare


def with_pytorch_struct():
    """The partition by pytorch-struct's parallel scan; the score of the gold path by indexing."""
    import torch
    from torch_struct import LinearChainCRF

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def prepare(shape):
        batch, time, _ = shape
        emissions, transitions, gold, lengths = (torch.tensor(each).to(device) for each in numbers(*shape))
        emissions.requires_grad_()
        transitions.requires_grad_()
        gold, rows = gold.long(), torch.arange(batch, device=device)[:, None]
        valid = torch.arange(time, device=device)[None] < lengths[:, None]

        def step():
            emissions.grad = transitions.grad = None
            # Its potentials are (batch, time - 1, next tag, tag).
            potentials = transitions.t()[None, None] + emissions[:, 1:, :, None]
            first = torch.zeros_like(potentials[:, :1]) + emissions[:, :1, None, :]
            potentials = torch.cat([potentials[:, :1] + first, potentials[:, 1:]], 1)
            steps = emissions[rows, torch.arange(time, device=device)[None], gold]
            pairs = transitions[gold[:, :-1], gold[:, 1:]]
            score = (steps * valid).sum(1) + (pairs * valid[:, 1:]).sum(1)
            loss = (LinearChainCRF(potentials, lengths=lengths.long()).partition - score).mean()
            loss.backward()
            transitions.grad.cpu()
            return float(loss)

        def decode():
            with torch.no_grad():
                potentials = transitions.t()[None, None] + emissions[:, 1:, :, None]
            return LinearChainCRF(potentials, lengths=lengths.long()).argmax.cpu()

        return step, decode

    return prepare


def with_torch(mode):
    import torch
    from torchcrf import CRF

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if mode.endswith("one"):
        torch.set_num_threads(1)

    def prepare(shape):
        emissions, transitions, gold, lengths = (torch.tensor(each).to(device) for each in numbers(*shape))
        crf = CRF(shape[2], batch_first=True).to(device)
        with torch.no_grad():
            crf.transitions.copy_(transitions)
            crf.start_transitions.zero_()
            crf.end_transitions.zero_()
        mask = torch.arange(shape[1], device=device)[None] < lengths[:, None]
        emissions.requires_grad_()

        def step():
            emissions.grad = None
            crf.zero_grad()
            loss = -crf(emissions, gold.long(), mask=mask, reduction="mean")
            loss.backward()
            crf.transitions.grad.cpu()
            return float(loss)

        return step, lambda: crf.decode(emissions, mask=mask)

    return prepare


def measure(function, seconds=0.7):
    """Median milliseconds of a call, after two to warm up; of fewer calls where one takes long."""
    function()
    began = time.perf_counter()
    function()
    least = 7 if time.perf_counter() - began < seconds else 2
    times, began = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - began < seconds and len(times) < 200):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def work(library, mode, memory, curve, shapes):
    """What a process of one library prints: a line of JSON for each shape."""
    if library.startswith("trellis"):
        from trellis.components.lattice import linear_chain

        if mode.endswith("parallel"):
            linear_chain.PARALLEL_STEPS, linear_chain.PARALLEL_TAGS = 0, 32
            linear_chain.has_gpu = lambda: True
        if mode.endswith("sequential"):
            linear_chain.PARALLEL_TAGS = 0
    if library == "pytorch-crf":
        prepare = with_torch(mode)
    elif library == "pytorch-struct":
        prepare = with_pytorch_struct()
    elif library == "trellis on jax":
        prepare = with_jax()
    else:
        prepare = with_tensorflow(library, mode)
    if memory:
        prepare((2, 3, 4))[0]()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        prepare(memory)[0]()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"shape": memory, "mebibytes": (after - before) / 1024}), flush=True)
        return
    for shape in [(8, 2**power, 20) for power in range(6, curve.bit_length())] if curve else shapes or SHAPES:
        if shape[1] >= LONG and mode == "graph":
            continue
        step, decode = prepare(shape)
        line = {"shape": shape, "loss": step(), "gradient": measure(step)}
        if not curve and shape[1] < LONG:
            line["viterbi"] = measure(decode)
        print(json.dumps(line), flush=True)


def ask(library, mode, python, **options):
    """Runs `work` in a process of its own; the lines it printed."""
    arguments = [f"--{name}={json.dumps(value)}" for name, value in options.items()]
    command = [python, "-m", "benchmarks.crf", "--library", library, "--mode", mode, *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if library == "tensorflow-addons":
        environment["TF_USE_LEGACY_KERAS"] = "1"
    if library == "trellis on jax":
        environment |= {"KERAS_BACKEND": "jax", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    try:
        output, errors = process.communicate(timeout=PATIENCE if "shapes" in options else None)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors += f"stopped after {PATIENCE} s"
    if process.returncode and errors.strip():
        print(f"{library}, {mode}: {errors.strip().splitlines()[-1][:200]}", file=sys.stderr)
    return [json.loads(line) for line in output.splitlines()]


def report_on_gpu(options):
    """Each mode of each library on a GPU, once."""
    found = {}
    for library, modes in GPU_MODES.items():
        for mode in modes:
            python = options.peer_python if library.startswith("pytorch") else sys.executable
            for line in ask(library, mode, python, shapes=options.shapes or GPU_SHAPES):
                found[library, mode, tuple(line["shape"])] = line
    shapes = list(dict.fromkeys(shape for *_, shape in found))
    for what, label in (("loss", "loss"), ("gradient", "loss and gradient, ms"), ("viterbi", "Viterbi, ms")):
        print(f"\n{label:<34}" + "".join(f"{shape!s:>18}" for shape in shapes))
        for library, modes in GPU_MODES.items():
            for mode in modes:
                values = (found.get((library, mode, shape), {}).get(what) for shape in shapes)
                cells = "".join(f"{'–':>18}" if value is None else f"{value:>18.4g}" for value in values)
                print(f"{f'{library}, {mode}':<34}{cells}", flush=True)


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
    parser.add_argument("--shapes", type=json.loads, help="JSON, with --gpu: [[batch, time, tags], …]")
    parser.add_argument("--gpu", action="store_true", help="on a GPU, with larger shapes")
    options = parser.parse_args()
    if options.library:
        work(options.library, options.mode, options.memory, options.curve, options.shapes)
    elif options.gpu:
        report_on_gpu(options)
    else:
        report(options)


if __name__ == "__main__":
    main()
