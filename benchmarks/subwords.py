"""Subwords in graph beside sentencepiece.

python -m benchmarks.subwords TRAIN.. --test TEST.. [--size 8000]

Learn subwords from the lines of the training files (plain or gzip), and encode those of the test files, shuffled, in
batches of 1, 64 and 1,000: ours in a `tf.function`, sentencepiece in Python. The ids have to agree.
"""

import argparse
import random
import statistics
import time

import sentencepiece
import tensorflow as tf

from trellis.components.readers.lines import read_lines
from trellis.components.text.subwords import Subwords, learn, train_sentencepiece

ROUNDS, BATCHES = 7, {1: 500, 64: 32, 1000: 3}  # rounds; the number of batches of each size in a round


def lines(paths: list[str]) -> list[str]:
    return [line for path in paths for _, line in read_lines(path)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", nargs="+")
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=8000)
    arguments = parser.parse_args()
    train, test = lines(arguments.train), lines(arguments.test)
    random.Random(0).shuffle(test)
    subwords = Subwords(learn(train, arguments.size))
    peer = sentencepiece.SentencePieceProcessor(model_proto=train_sentencepiece(train, arguments.size, True))
    encode = tf.function(subwords.encode, input_signature=[tf.TensorSpec([None], tf.string)])
    different = sum(ours != theirs for ours, theirs in zip(encode(test).to_list(), peer.encode(test), strict=True))
    print(f"{len(test):,} lines, {different:,} with different ids")
    for size, count in BATCHES.items():
        texts = [[test[(index * size + row) % len(test)] for row in range(size)] for index in range(count)]
        tensors = [tf.constant(batch) for batch in texts]
        rates: dict[str, list[float]] = {"ours": [], "sentencepiece": []}
        for _ in range(ROUNDS):
            for name, function, batches in (("ours", encode, tensors), ("sentencepiece", peer.encode, texts)):
                began = time.perf_counter()
                for batch in batches:
                    function(batch)
                rates[name].append(size * count / (time.perf_counter() - began))
        ours, theirs = statistics.median(rates["ours"]), statistics.median(rates["sentencepiece"])
        print(f"batch {size:>5,}: {ours:>9,.0f} lines/s, sentencepiece {theirs:>9,.0f}, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
