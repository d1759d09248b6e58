"""Training and decoding speed of the BiLSTM-CRF tagger beside the same network in PyTorch with pytorch-crf.

python -m benchmarks.tagging [--data FOLDER] [--rounds 3] [--epochs 3] [--peer-python PYTHON] [--peer SCRIPT]

Same sizes (100-dimensional words, 30 → 50 character CNN, 128 units in each direction), same data (CoNLL-2003), 32
sentences a batch; the two run in turn, each in a process of its own, and the medians of all epochs but the first of
each process are compared. PYTHON has torch and pytorch-crf: `pip install .[bench]`. SCRIPT is by default
`benchmarks/torch_bilstm_crf.py`; another one gets the folder's three files as arguments and prints lines such as
`epoch 2 train 31000 tok/s … decode 80000 tok/s`.
"""

import argparse
import gzip
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
DECODING_ROWS = 128


def ours(folder, epochs, sentences):
    """Yields the speeds of each epoch, and at the end how much slower fed steps are than steps from memory."""
    import time

    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import keras
        import tensorflow as tf

        from trellis.components.layers.sequence_head import NegativeLogLikelihood
        from trellis.components.models.tagger import tagger
        from trellis.components.readers import conll
        from trellis.components.text.batching import Buckets, EncodedCorpus, ordered_batches, training_batches
        from trellis.components.text.vectorizer import TokenVectorizer
        from trellis.components.training.in_flight import in_flight

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(0)
    train, dev = (conll.read(Path(folder) / f"{part}.conll", 0, -1) for part in ("train", "dev"))
    tokens = [token for sentence in train for token in sentence.tokens]
    vectorizer = TokenVectorizer.adapt(tokens, max_characters=20, features=("words", "characters"), min_count=2)
    tags = sorted({tag for sentence in train for tag in sentence.tags})
    corpus, dev_corpus = (EncodedCorpus(part, vectorizer, tags) for part in (train, dev))
    buckets = Buckets(corpus.lengths, max_shapes=19, sentences=sentences)
    dev_buckets = Buckets(dev_corpus.lengths, max_shapes=19, sentences=DECODING_ROWS)
    model = tagger(
        vectorizer.sizes, len(tags), cell="lstm", bidirectional=True, layers=1, units=128, head="crf",
        words={"dim": 100, "tune": True}, characters={"kind": "cnn", "dim": 30, "units": 50, "window": 3},
        casing={"dim": 0}, dropout={"word": 0.0, "input": 0.5, "recurrent": 0.0, "output": 0.5},
    )  # fmt: skip
    optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=5.0)
    model.compile(optimizer, loss=NegativeLogLikelihood(), steps_per_execution=32, jit_compile=False)
    decode = tf.function(lambda features: model(features, training=False), reduce_retracing=True)

    def fit(batches):
        began = time.perf_counter()
        model.fit(batches, verbose=0, shuffle=False)
        return time.perf_counter() - began

    dev_batches = ordered_batches(dev_corpus, dev_buckets)
    fed = training_batches(corpus, buckets, 0, lambda: epoch)
    for epoch in range(epochs):
        seconds = fit(fed)
        began = time.perf_counter()
        for rows, predicted in in_flight(lambda batch: (batch[0], decode(batch[1]).numpy()), dev_batches):
            assert len(predicted) == len(rows)
        decoding = time.perf_counter() - began
        yield {"epoch": epoch, "train": corpus.tokens / seconds, "decode": dev_corpus.tokens / decoding}
    memory = fed.cache()
    for _ in memory:
        pass
    turns = [(fit(fed), fit(memory)) for _ in range(3)]
    yield {
        "fed_over_memory": statistics.median(fed / kept for fed, kept in turns),
        "padding": buckets.padding,
        "shapes": len(buckets.shapes),
    }


def plain_folder(data, place):
    """The corpus uncompressed, as the peers read it."""
    for part in ("train", "dev", "test"):
        source = next(path for path in (data / f"{part}.conll", data / f"{part}.conll.gz") if path.exists())
        raw = source.read_bytes()
        (place / f"{part}.conll").write_bytes(gzip.decompress(raw) if source.suffix == ".gz" else raw)
    return place


def peer(python, script, folder, epochs, sentences):
    """The peer's speeds, an epoch a dictionary."""
    own = script == ROOT / "benchmarks" / "torch_bilstm_crf.py"
    own_size = [str(sentences)] if own else []
    files = [folder] if own else [folder / f"{part}.conll" for part in ("train", "dev", "test")]
    command = [python, script, *files, str(epochs), *own_size]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    if own:
        return [json.loads(line) for line in output.splitlines()]
    lines = re.findall(r"epoch (\d+) train (\d+) tok/s.*decode (\d+) tok/s", output)
    return [{"epoch": int(e) - 1, "train": float(t), "decode": float(d)} for e, t, d in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of CoNLL-2003; by default where train.py finds it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--sentences", type=int, default=32, help="of a training batch")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer", type=Path, default=ROOT / "benchmarks" / "torch_bilstm_crf.py")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        for each in ours(options.ours, options.epochs, options.sentences):
            print(json.dumps(each), flush=True)
        return
    if options.data is None:
        from trellis.components.readers.dataset import locate

        data = yaml.safe_load((ROOT / "conf/data/conll2003.yaml").read_text())
        options.data = locate(data["name"], data["files"], None, data["download"])["train"].parent
    with tempfile.TemporaryDirectory() as place:
        folder = plain_folder(options.data, Path(place))
        results, extra = {"trellis": [], "pytorch": []}, []
        for _ in range(options.rounds):
            mine = [sys.executable, "-m", "benchmarks.tagging", "--ours", str(folder), "--epochs", str(options.epochs)]
            mine += ["--sentences", str(options.sentences)]
            output = subprocess.run(mine, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
            lines = [json.loads(line) for line in output.splitlines()]
            extra += [line for line in lines if "epoch" not in line]
            results["trellis"] += [line for line in lines if line.get("epoch")]
            theirs = peer(options.peer_python, options.peer, folder, options.epochs, options.sentences)
            results["pytorch"] += [line for line in theirs if line["epoch"]]
    print(f"{'tokens/s, median of':<24}{'trellis':>12}{'pytorch':>12}{'ratio':>8}")
    for name in ("train", "decode"):
        mine, theirs = (statistics.median(each[name] for each in results[who]) for who in ("trellis", "pytorch"))
        label = f"{name}, {len(results['trellis'])} epochs"
        print(f"{label:<24}{mine:>12,.0f}{theirs:>12,.0f}{mine / theirs:>8.2f}")
    fed = statistics.median(each["fed_over_memory"] for each in extra)
    print(f"a step fed by the pipeline takes {fed:.3f} × a step from memory")
    print(f"{extra[0]['padding']:.1%} padding in {extra[0]['shapes']} batch shapes")


if __name__ == "__main__":
    main()
