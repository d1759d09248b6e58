"""A trained translator beside the same network in PyTorch: training, decoding, and whether both translate alike.

python -m benchmarks.translation RUN [--rounds 3] [--steps 40] [--peer-python PYTHON]

RUN is the folder of a finished run of `experiment=multi30k_en_de` or another of the shape of `model=gru_translation`.
The peer (benchmarks/torch_translation.py) gets the weights of the run, so that both decode the
same model: ours from the SavedModel, strings in and strings out, PyTorch's from ids to ids, by a beam search in Python.
The two run in turn, each in a process of its own; medians over the rounds. Training is the same batches with dropout,
label smoothing, clipping, Adam and a moving average. PYTHON has torch (extra `bench`).
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTHS = (1, 5)
COMPARED = 200  # sentences whose translations are compared


def prepare(run, folder):
    """Writes a SavedModel for each beam, and what the peer needs: weights, batches of ids, sources of the test part."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import keras
        import numpy as np
        from omegaconf import OmegaConf

        import trellis.layers  # noqa: F401
        from trellis.components.layers.both_devices import exporting
        from trellis.components.saved_model.translator_module import TranslatorModule
        from trellis.pipelines.configuration import plain
        from trellis.pipelines.translation import Translation

    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    task = Translation(config)
    encoded = task.encode(task.read())
    batches = task.batch(encoded)
    model = keras.models.load_model(run / "checkpoints" / "best.keras", compile=False)
    for width in WIDTHS:
        settings = plain(config.decoding) | {"width": width}
        with exporting():
            TranslatorModule(model, encoded.source, encoded.target, settings).save(folder / f"beam{width}")
    weights = {}
    for weight in model.weights:
        name = weight.path.removeprefix(f"{model.name}/")
        for part in ("forward", "backward"):
            name = name.replace(f"encoder_1/{part}_encoder_1/gru_cell", f"encoder_1/{part}")
        weights[name.replace("/gru_cell", "")] = weight.numpy()
    np.savez(folder / "weights.npz", **weights)
    (folder / "pieces.json").write_text(json.dumps(encoded.target.model.pieces))

    def rows(ids):
        return [[value for value in row if value] for row in ids.numpy().tolist()]

    dataset = batches.epoch_dataset(lambda: 0).take(80)
    test = encoded.corpora["test"]
    sources = rows(test.sources.rows(np.arange(len(test.lengths), dtype=np.int32)))
    (folder / "given.json").write_text(
        json.dumps({
            "batches": [[rows(batch[0]["source"]), rows(batch[0]["target"])] for batch in dataset],
            "sources": sources, "texts": list(encoded.data.sources["test"]),
            "dropout": config.model.dropout.input, "smoothing": config.model.label_smoothing,
            "average": config.trainer.average, "config": model.get_config(),
        })
    )  # fmt: skip


def ours(folder, steps):
    """Prints the speeds of ours as one JSON object; writes the translations."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import keras
        import numpy as np
        import tensorflow as tf

        from trellis.components.models.translator import Translator

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    given = json.loads((folder / "given.json").read_text())
    answer, found = {"tensorflow": tf.__version__}, {}
    texts = given["texts"]
    order = sorted(range(len(texts)), key=lambda row: len(given["sources"][row]))
    for width in WIDTHS:
        model = tf.saved_model.load(str(folder / f"beam{width}"))
        translate = model.signatures["serving_default"]
        for batch in (1, 64):
            chosen = [row for row in order if row < 100] if batch == 1 else order
            groups = [chosen[start : start + batch] for start in range(0, len(chosen), batch)]
            requests = [tf.constant([texts[row] for row in rows]) for rows in groups]
            for text in requests[:2]:
                translate(text=text)
            began = time.perf_counter()
            answers = [translate(text=text)["text"].numpy() for text in requests]
            answer[f"beam {width}, batch {batch}"] = len(chosen) / (time.perf_counter() - began)
            if batch == 64:
                by_row = dict(zip(order, itertools.chain(*answers), strict=True))
                found[str(width)] = [by_row[row].decode() for row in range(len(texts))]
    keras.utils.set_random_seed(0)
    config = given["config"]
    model = Translator.from_config(config)
    model.compile(keras.optimizers.Adam(1e-4, global_clipnorm=1.0, use_ema=True, ema_momentum=0.998), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    spec = [tf.TensorSpec([None, None], tf.int32)] * 2
    step = tf.function(
        lambda source, target: model.train_step(({"source": source, "target": target},))["loss"],
        input_signature=spec, autograph=False,
    )  # fmt: skip

    def padded(rows):
        ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
        return tf.constant(ids)

    speeds = []
    for source, target in given["batches"][:steps]:
        source, target = padded(source), padded(target)
        began = time.perf_counter()
        step(source, target).numpy()
        speeds.append((int(np.count_nonzero(target)), time.perf_counter() - began))
    timed = speeds[len(speeds) // 4 :]
    answer["training"] = sum(count for count, _ in timed) / sum(seconds for _, seconds in timed)
    (folder / "ours.json").write_text(json.dumps(found))
    print(json.dumps(answer))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        ours(options.ours, options.steps)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(options.run, folder)
        commands = {
            "ours": [
                sys.executable,
                "-m",
                "benchmarks.translation",
                ".",
                "--ours",
                folder,
                "--steps",
                options.steps,
            ],
            "torch": [options.peer_python, ROOT / "benchmarks/torch_translation.py", folder, options.steps],
        }
        rounds = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                ran = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
                if ran.returncode:
                    sys.exit(f"{name}: {ran.stderr[-2000:]}")
                rounds[name].append(json.loads(ran.stdout.splitlines()[-1]))
        versions = rounds["ours"][0]["tensorflow"], rounds["torch"][0]["torch"]
        print(f"TensorFlow {versions[0]}, PyTorch {versions[1]}; medians of {options.rounds} rounds")
        print(f"{'':28}{'ours':>10}{'PyTorch':>10}{'ratio':>8}")
        for name in [key for key in rounds["ours"][0] if key != "tensorflow"]:
            mine, peer = (statistics.median(found[name] for found in rounds[who]) for who in ("ours", "torch"))
            unit = "tokens/s" if name == "training" else "sentences/s"
            print(f"{f'{name}, {unit}':28}{mine:10,.0f}{peer:10,.0f}{mine / peer:8.2f}")
        compare(folder)
    metrics = json.loads((options.run / "metrics.json").read_text())
    print(", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name.startswith("test/")))


def compare(folder):
    """Prints how many of the first translations both decoders agree on."""
    theirs = json.loads((folder / "found.json").read_text())
    mine = json.loads((folder / "ours.json").read_text())
    pieces = json.loads((folder / "pieces.json").read_text())
    for width, translations in mine.items():
        decoded = [
            "".join(pieces[index] for index in ids if index > 3).replace("▁", " ").strip() for ids in theirs[width]
        ]
        pairs = list(zip(translations, decoded, strict=True))[:COMPARED]
        equal = sum(one == other for one, other in pairs)
        print(f"beam {width}: {equal} of {len(pairs)} translations are equal")


if __name__ == "__main__":
    main()
