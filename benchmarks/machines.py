"""What several workers exchange in a training step, how fast two are on this machine, and what a network allows.

python -m benchmarks.machines [--runs "model=bilstm_crf data=conll2003" "model=lstm_lm data=ptb"] [--sentences 2000]

Counts the bytes of the gradients that the workers add up in a step: those of dense weights, and those of embeddings, of
which only the rows that a batch has are sent. Then trains with one process and with two workers on this machine, each
on the same batches, without MLflow and exports. On a machine without spare cores two workers are not faster.

The speed-up with more workers is arithmetic, not a measurement: a step takes the time of one process, and then the
exchange. Each worker has a batch of its own, as large as that of one process. Dense gradients are added up in a ring,
2 (n - 1) / n × bytes for each worker; rows are gathered, (n - 1) × bytes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = ("model=bilstm_crf data=conll2003", "model=lstm_lm data=ptb")
SAMPLE_RUNS = ("model=bilstm_crf", "model=lstm_lm")
STEPS = 5
WORKERS = (8, 64)
NETWORKS = (10, 100)  # Gbit/s


def exchanged(overrides):
    """Print bytes of dense gradients and of rows that a worker sends in a step, and the number of weights, as JSON."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import hydra
        import keras
        import tensorflow as tf

        from trellis.components import workers
        from trellis.components.training import data_parallel
        from trellis.pipelines import training
        from trellis.pipelines.configuration import Tree

        config = Tree().compose(overrides)
        task = hydra.utils.get_class(config.pipeline._target_)(config)
        encoded = task.encode(task.read())
        batches = task.batch(encoded)
        model = task.build(encoded, batches)
        training.compile_model(model, task.loss(encoded, batches), config, batches.steps, task.epochs)
    sizes = {"dense": 0, "rows": 0}

    def count(values):
        for value in tf.nest.flatten(values):
            if isinstance(value, tf.IndexedSlices):
                sizes["rows"] += sum(tensor.numpy().nbytes for tensor in (value.values, value.indices))
            elif value is not None:
                sizes["dense"] += value.numpy().nbytes
        return values

    workers.total = count
    for batch in batches.epoch_dataset(lambda: 0).take(STEPS):
        # As `compile_model` chooses: models with a step of their own add up gradients in it.
        if type(model).train_step is keras.Model.train_step:
            data_parallel.train_step(model, batch)
        else:
            model.train_step(batch)
    weights = sum(int(tf.size(variable.value)) for variable in model.trainable_variables)
    print(json.dumps({"weights": weights, **{name: size / STEPS for name, size in sizes.items()}}))


def trained(overrides, folder, workers):
    """Return the metrics of a run of one process, or of several workers."""
    command = ["launch", "--workers", str(workers), "train"] if workers > 1 else ["train"]
    options = ["tracking=off", "export=off", "trainer.epochs=3", f"hydra.run.dir={folder}"]
    subprocess.run(
        [sys.executable, "-m", "trellis", *command, *overrides, *options],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    return json.loads((Path(folder) / "metrics.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", default=RUNS if "TRELLIS_DATA" in os.environ else SAMPLE_RUNS)
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--exchanged", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.exchanged:
        exchanged(json.loads(options.exchanged))
        return
    for run in options.runs:
        overrides = [*run.split(), f"limit.sentences={options.sentences}"]
        command = [sys.executable, "-m", "benchmarks.machines", "--exchanged", json.dumps(overrides)]
        sent = json.loads(subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout)
        with tempfile.TemporaryDirectory() as folder:
            metrics = [trained(overrides, f"{folder}/{count}", count) for count in (1, 2)]
        dense, rows, step = sent["dense"], sent["rows"], metrics[0]["train/step_ms"] / 1e3
        one, two = (each["train/tokens_per_second"] for each in metrics)
        print(f"\n{run}, {options.sentences} sentences or lines")
        print(f"  {sent['weights']:,} weights; a step exchanges {dense / 1e6:.2f} MB, and {rows / 1e6:.2f} MB of rows")
        cores = len(os.sched_getaffinity(0))
        print(
            f"  {one:,.0f} tokens/s with one process, {two:,.0f} with two workers on {cores} cores: {two / one:.2f} ×"
        )
        for network in NETWORKS:
            shown = []
            for workers in WORKERS:
                seconds = (2 * (workers - 1) / workers * dense + (workers - 1) * rows) * 8 / (network * 1e9)
                shown.append(f"{workers * step / (step + seconds):.1f} × with {workers} workers")
            print(f"  {network} Gbit/s, {1e3 * step:.0f} ms a step: {', '.join(shown)}")


if __name__ == "__main__":
    main()
