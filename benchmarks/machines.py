"""What several workers send in each training step, what that costs on a network, and two workers on this machine.

python -m benchmarks.machines [--epochs 3] [OVERRIDE …]

For each model, the bytes of a step are counted: gradients that are summed (an all-reduce), and gradients of the rows
of embeddings, which are gathered. The projection is for workers that each have a batch as large as that of one process:
the step is the time that one process takes here, and communication is not overlapped with computation. A ring of n
workers sends 2 (n - 1) / n times what is summed and n - 1 times what is gathered, in 2 (n - 1) rounds of 50
microseconds.

Then one process and two workers train the first model on this machine, with the same batches; OVERRIDE changes its
settings. Two workers share the cores that one process has for itself, so this shows the cost of having two.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = {
    "bilstm_crf": [],
    "lstm_lm": [],
    "bilstm_classifier": [],
    "gru_translation": [],
}
WORKERS, GIGABITS = (1, 8, 64), (10, 100)
ROUND = 50e-6  # seconds of latency


def sizes(model_name):
    """Bytes of a step of a model on its sample: summed, gathered; and the seconds that a step takes."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import hydra
        import tensorflow as tf

        from trellis.components import workers
        from trellis.components.training import data_parallel
        from trellis.pipelines import training
        from trellis.pipelines.configuration import Tree

    config = Tree().compose([f"model={model_name}", *MODELS[model_name]])
    task = hydra.utils.get_class(config.pipeline._target_)(config)
    encoded = task.encode(task.read())
    batches = task.batch(encoded)
    model = task.build(encoded, batches)
    loss = task.loss(encoded, batches)
    training.compile_model(model, loss, config, batches.steps, task.epochs)
    dataset = batches.epoch_dataset(lambda: 0)
    found = {"summed": 0, "gathered": 0}

    def counted(values):
        for leaf in tf.nest.flatten(values):
            if isinstance(leaf, tf.IndexedSlices):
                found["gathered"] += bytes_of(leaf.values) + bytes_of(leaf.indices)
            elif leaf is not None:
                found["summed"] += bytes_of(leaf)
        return values

    def bytes_of(tensor):
        return int(tf.size(tensor)) * tensor.dtype.size

    steps = list(dataset.take(8))
    total, workers.total = workers.total, counted
    step = model.train_step if loss.of_batch is None else lambda data: data_parallel.train_step(model, data)
    for data in steps:
        step(data)
    workers.total = total
    compiled = tf.function(model.train_step, reduce_retracing=True)
    for data in steps:
        compiled(data)
    began = time.perf_counter()
    for data in steps:
        compiled(data)
    seconds = (time.perf_counter() - began) / len(steps)
    return found["summed"] / len(steps), found["gathered"] / len(steps), seconds


def projected(summed, gathered, seconds, workers, gigabits):
    """The share of a step that is computation."""
    sent = 2 * (workers - 1) / workers * summed + (workers - 1) * gathered
    waiting = sent * 8 / (gigabits * 1e9) + 2 * (workers - 1) * ROUND
    return seconds / (seconds + waiting)


def speed(folder, *command):
    """Tokens a second of a run, the median of its epochs but the first."""
    subprocess.run(
        [sys.executable, "-m", "trellis", *command, f"hydra.run.dir={folder}"], check=True, cwd=folder.parent
    )
    return json.loads((folder / "metrics.json").read_text())["train/tokens_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="of the run on this machine")
    parser.add_argument("--sizes", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the run on this machine")
    options = parser.parse_args()
    if options.sizes:
        print(json.dumps(sizes(options.sizes)))
        return
    columns = [f"{count} × {gigabits} Gbit/s" for count in WORKERS for gigabits in GIGABITS]
    print(f"{'a step':<18}{'summed':>10}{'gathered':>10}{'time':>9}  computing, with workers ×  network")
    print(" " * 47 + "".join(f"{column:>15}" for column in columns))
    for name in MODELS:
        output = subprocess.run(
            [sys.executable, "-m", "benchmarks.machines", "--sizes", name], capture_output=True, text=True, check=True
        ).stdout
        summed, gathered, seconds = json.loads(output.splitlines()[-1])
        shares = [projected(summed, gathered, seconds, count, gigabits) for count in WORKERS for gigabits in GIGABITS]
        print(f"{name:<18}{summed / 1e6:>7.2f} MB{gathered / 1e6:>7.2f} MB{1000 * seconds:>6.0f} ms", end="")
        print("".join(f"{share:>15.0%}" for share in shares), flush=True)
    training = [
        "train",
        f"model={next(iter(MODELS))}",
        f"trainer.epochs={options.epochs}",
        "tracking=off",
        "export=off",
    ]
    with tempfile.TemporaryDirectory() as place:
        alone = speed(Path(place) / "one", *training, *options.overrides)
        together = speed(Path(place) / "two", "launch", "--workers", "2", *training, *options.overrides)
    print(f"one process {alone:,.0f} tokens/s, two workers {together:,.0f}: {together / alone:.2f} ×")


if __name__ == "__main__":
    main()
