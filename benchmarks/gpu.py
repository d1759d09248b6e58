"""What has to be true on a GPU, and how fast it is there, in one run.

python -m benchmarks.gpu EXPORTS [--out FOLDER] [--peer-python PYTHON] [--only SECTION,…]

EXPORTS is a folder of exports that were written on a machine without a GPU. Each section runs in processes of its own,
with a limit of time, so that one that fails leaves the others; what it prints is also in FOLDER.

    exports   each export, through TensorFlow's C API and in Python: answers beside those that it had on CPU, dummy rows
              and empty texts, and how often cuDNN was called (its own log counts)
    write     exports written here, into FOLDER/exports; `trellis verify` on a CPU says whether they run there too
    layers    the recurrent layers in training: cuDNN's outputs and gradients beside those of the loop
    crf       benchmarks.crf --gpu
    tagging   benchmarks.tagging, small and large batches
    language  benchmarks.language, small and large
    serving   benchmarks.serving of `bilstm_crf`
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = {
    "bilstm_crf": ["trainer.epochs=2"],
    "gru_crf": ["trainer.epochs=2"],
    "rnn_crf": ["trainer.epochs=1", "model.units=32"],
    "lstm_classifier": ["trainer.epochs=2"],
    "lstm_lm": ["trainer.epochs=1", "report.mixture=null"],
}


def exports(folder):
    """Asks every export what it was asked on CPU; a line of JSON for each."""
    from trellis.components.saved_model.versions import latest

    versions = [latest(path) for path in sorted(Path(folder).iterdir())]
    ways = [(way, tf32) for way in ("c_api", "python") for tf32 in (True, False)]
    with ThreadPoolExecutor(8) as threads:
        lines = [[threads.submit(_compared, version, *way) for way in ways] for version in versions]
        for version, line in zip(versions, lines, strict=True):
            for (way, tf32), each in zip(ways, line, strict=True):
                print(json.dumps({"export": version.parent.name, "by": way, "tf32": tf32, **each.result()}), flush=True)


def _compared(version, way, tf32):
    """The golden answers of an export beside those that it has here."""
    import numpy as np

    from trellis.components.saved_model.c_api import decode_array

    log = Path(f"/tmp/cudnn-{uuid.uuid4()}.log")
    environment = {**os.environ, "CUDNN_LOGLEVEL_DBG": "3", "CUDNN_LOGDEST_DBG": str(log)}
    if not tf32:
        environment["NVIDIA_TF32_OVERRIDE"] = "0"
    golden = json.loads((version / "assets.extra" / "golden.json").read_text())
    script = ["-m", "benchmarks.gpu", "--ask", str(version)]
    if way == "c_api":
        signatures = dict.fromkeys(request["signature"] for request in golden)
        script = ["-m", "trellis.components.saved_model.c_api", str(version), *signatures]
    done = subprocess.run([sys.executable, *script], capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        return {"failed": (done.stderr.strip() or "?").splitlines()[-1][-300:]}
    answers = [json.loads(each) for each in done.stdout.splitlines() if each.startswith("{")][1:]
    furthest, unequal, strings = 0.0, 0, 0
    for request, answer in zip(golden, answers, strict=True):
        for output, stored in request["outputs"].items():
            wanted, found = decode_array(stored), decode_array(answer["outputs"][output])
            if wanted.shape != found.shape:
                unequal += 1
            elif wanted.dtype.kind == "f":
                gap = np.abs(wanted - found) / np.maximum(np.abs(wanted), 1)
                furthest = max(furthest, float(gap.max(initial=0)))
            else:
                unequal += int((wanted != found).sum())
                strings += wanted.size
    calls = log.read_text(errors="replace") if log.exists() else ""
    return {
        "furthest": furthest,
        "unequal": f"{unequal} of {strings}",
        "cudnn calls": len(re.findall(r"cudnnRNNForward", calls)),
        "milliseconds": round(float(np.median([each["milliseconds"] for each in answers])), 2),
        **{each: answers[0][each] for each in ("dummy rows", "empty", "kernels") if each in answers[0]},
    }


def ask(version):
    """In Python: the golden requests, then dummy rows, empty texts, and the profiler's names of cuDNN's kernels."""
    import numpy as np
    import tensorflow as tf

    from trellis.components.saved_model.c_api import decode_array, encode_array

    model = tf.saved_model.load(version)
    golden = json.loads((Path(version) / "assets.extra" / "golden.json").read_text())
    extra, answers, gap = {}, [], 0.0
    for request in golden:
        asked = model.signatures[request["signature"]]
        inputs = {key: decode_array(value) for key, value in request["inputs"].items()}
        began = time.perf_counter()
        found = {key: each.numpy() for key, each in asked(**{k: tf.constant(v) for k, v in inputs.items()}).items()}
        milliseconds = 1000 * (time.perf_counter() - began)
        answers.append(
            {"outputs": {key: encode_array(each) for key, each in found.items()}, "milliseconds": milliseconds}
        )
        rows = next(len(each) for each in inputs.values() if each.ndim)
        filled = {
            key: tf.constant(
                np.concatenate([each, np.full_like(each[:1], b"" if each.dtype == object else 0).repeat(3, 0)])
                if each.ndim
                else each
            )
            for key, each in inputs.items()
        }
        for key, each in asked(**filled).items():
            each = each.numpy()[:rows]
            if each.dtype == object:
                gap = max(gap, float((each != found[key]).any()))
            else:
                gap = max(gap, float(np.abs(each - found[key]).max(initial=0)))
    extra["dummy rows"] = gap
    empties = []
    for name, asked in model.signatures.items():
        names = asked.structured_input_signature[1]
        if set(names) & {"count", "width"} or len(names) > 1:
            continue
        key, spec = next(iter(names.items()))
        empty = tf.constant([""] if spec.shape.rank == 1 else [[""]])
        try:
            asked(**{key: empty})
        except Exception as error:
            empties.append(f"{name}: {str(error).splitlines()[0][:200]}")
    extra["empty"] = empties or "answered"
    extra["kernels"] = _kernels(lambda: asked_again(model, golden[0]))
    answers[0] |= extra
    print(json.dumps({"loading": 0}))
    for answer in answers:
        print(json.dumps(answer))


def asked_again(model, request):
    import tensorflow as tf

    from trellis.components.saved_model.c_api import decode_array

    inputs = {key: tf.constant(decode_array(value)) for key, value in request["inputs"].items()}
    next(iter(model.signatures[request["signature"]](**inputs).values())).numpy()


def _kernels(function):
    """Names of the recurrent kernels that TensorFlow's profiler saw on the device."""
    import tempfile

    import tensorflow as tf

    try:
        with tempfile.TemporaryDirectory() as folder:
            tf.profiler.experimental.start(folder)
            function()
            tf.profiler.experimental.stop()
            raw = b"".join(file.read_bytes() for file in Path(folder).rglob("*.xplane.pb"))
    except Exception as error:
        return [f"no profile: {str(error).splitlines()[0][:150]}"]
    names = set(re.findall(rb"[\w:<>]*(?:LSTM|GRU|RNN|persist)[\w:<>]*", raw))
    return sorted(name.decode()[:70] for name in names if len(name) > 6)[:14]


def layers():
    """Each recurrent layer in training: cuDNN's outputs, last states and gradients beside those of the loop."""
    import numpy as np
    import tensorflow as tf

    from trellis.components.layers import recurrent

    tf.config.experimental.enable_tensor_float_32_execution(False)
    rng = np.random.default_rng(0)
    inputs = tf.constant(rng.normal(size=(7, 12, 6)), tf.float32)
    mask = tf.constant(np.arange(12) < np.array([12, 5, 1, 0, 9, 12, 0])[:, None])

    def computed(layer, by_cudnn, mask, dtype):
        layer._uses_cudnn = lambda: by_cudnn
        given = tf.cast(inputs, dtype)

        @tf.function
        def compute(mask):
            with tf.GradientTape() as tape:
                tape.watch(given)
                outputs, *states = layer(given, mask=mask, training=True)
                if mask is not None:
                    outputs = tf.where(mask[..., None], outputs, 0)
                loss = sum(tf.reduce_sum(tf.sin(tf.cast(each, tf.float32))) for each in (outputs, *states))
            variables = [each.value for each in layer.trainable_variables]
            return [outputs, *states, *tape.gradient(loss, [given, *variables])]

        if mask is not None:
            compute(tf.ones_like(mask))  # What is kept for a shape without padding has to fit one with padding.
        return [tf.cast(each, tf.float32).numpy() for each in compute(mask)]

    for kind in ("SimpleRNN", "LSTM", "GRU"):
        for backwards in (False, True):
            for masked in (mask, None):
                for dtype in ("float32", "mixed_bfloat16"):
                    line = {"layer": kind, "backwards": backwards, "masked": masked is not None, "dtype": dtype}
                    try:
                        layer = getattr(recurrent, kind)(
                            8, return_sequences=True, return_state=True, go_backwards=backwards, dtype=dtype
                        )
                        layer.build((None, None, 6))
                        # Beside the loop in float32, whatever the type.
                        exact = getattr(recurrent, kind)(
                            8, return_sequences=True, return_state=True, go_backwards=backwards
                        )
                        exact.build((None, None, 6))
                        exact.set_weights(layer.get_weights())
                        theirs = computed(exact, False, masked, "float32")
                        ours = computed(layer, True, masked, layer.compute_dtype)
                        line["furthest"] = max(
                            float((np.abs(a - b) / (1 + np.abs(b))).max()) for a, b in zip(ours, theirs, strict=True)
                        )
                    except Exception as error:
                        line["failed"] = str(error).splitlines()[0][:200]
                    print(json.dumps(line), flush=True)
    layer = recurrent.LSTM(8, return_sequences=True)
    try:
        layer(inputs, mask=tf.reverse(mask, [1]))
        print(json.dumps({"mask with padding on the left": "accepted"}))
    except Exception as error:
        print(json.dumps({"mask with padding on the left": str(error).splitlines()[0][:200]}))


def write(out):
    """Trains and exports here; the exports lie in one archive."""
    folder = out / "exports"
    runs = []
    for name, overrides in SMALL.items():
        command = [
            sys.executable, "train.py", f"model={name}", *overrides, "tracking=off", f"export.dir={folder}/{name}",
            f"hydra.run.dir={out}/runs/{name}",
        ]  # fmt: skip
        runs.append(
            (name, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        )
    for name, run in runs:
        output, _ = run.communicate()
        print(f"== {name}: status {run.returncode}")
        print("\n".join(output.strip().splitlines()[-14:] if run.returncode else output.strip().splitlines()[-9:]))
    with tarfile.open(out / "exports.tar.gz", "w:gz") as archive:
        archive.add(folder, "exports")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--only", default="layers,exports,write,crf,tagging,language,serving")
    parser.add_argument("--data", type=Path, help="folder of CoNLL-2003")
    for hidden in ("--ask", "--answers"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--layers", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.ask:
        return ask(options.ask)
    if options.answers:
        return exports(options.answers)
    if options.layers:
        return layers()
    if options.write:
        return write(options.out)
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
    peer = ["--peer-python", options.peer_python]
    data = ["--data", str(options.data)] if options.data else []
    sections = {
        "layers": [(["benchmarks.gpu", "--layers"], 60)],
        "exports": [(["benchmarks.gpu", "--answers", str(options.exports)], 240)],
        "write": [(["benchmarks.gpu", "--write", "--out", str(options.out)], 150)],
        "crf": [(["benchmarks.crf", "--gpu", *peer], 400)],
        "tagging": [
            (["benchmarks.tagging", "--rounds", "1", "--epochs", "4", "--sentences", str(n), *peer, *data], 150)
            for n in (32, 256)
        ],
        "language": [
            (["benchmarks.language", "--neural", "--rounds", "1", "--units", str(u), "--rows", str(r), *peer], 90)
            for u, r in ((200, 20), (1024, 256))
        ],
        "serving": [(["benchmarks.serving", str(options.exports), "--requests", "20000"], 120)],
    }
    for name in options.only.split(","):
        for module, limit in sections[name]:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", *module], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
            try:
                output, errors = process.communicate(timeout=limit)
                status = process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, errors = process.communicate()
                status = f"stopped after {limit} s"
            title = f"#### {' '.join(module)} (status {status}, {time.perf_counter() - began:.0f} s)"
            kept = [line for line in errors.splitlines() if not re.match(r"[IWE]\d{4}|WARNING", line)]
            text = "\n".join([title, output.rstrip(), *(kept[-12:] if status else kept[-2:])])
            print(text, flush=True)
            with (options.out / "report.txt").open("a") as report:
                report.write(text + "\n")
    return None


if __name__ == "__main__":
    main()
