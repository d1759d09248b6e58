"""Writes what tensorflow_addons answers, for the tests to compare with: golden.npz and tagger.h5.

Needs CPython 3.11 with tensorflow, tfa-nightly==0.23.0.dev20240415222534, tf_keras and typeguard<3:

    TF_USE_LEGACY_KERAS=1 python tests/components/tensorflow_addons/make_golden.py
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

import tensorflow_addons as tfa

HERE = Path(__file__).parent


def answers(rng, batch, time, tags, lengths):
    inputs = rng.normal(size=(batch, time, tags)).astype(np.float32)
    transitions = rng.normal(size=(tags, tags)).astype(np.float32)
    gold = rng.integers(0, tags, (batch, time)).astype(np.int32)
    bitmap = rng.random((batch, time, tags)) < 0.6
    bitmap[np.arange(batch)[:, None], np.arange(time)[None], gold] = True
    lengths = np.array(lengths, np.int32)
    text = tfa.text
    found = {
        "filtered": text.crf_filtered_inputs(inputs, bitmap),
        "sequence_score": text.crf_sequence_score(inputs, gold, lengths, transitions),
        "multitag": text.crf_multitag_sequence_score(inputs, bitmap, lengths, transitions),
        "log_norm": text.crf_log_norm(inputs, lengths, transitions),
        "log_likelihood": text.crf_log_likelihood(inputs, gold, lengths, transitions)[0],
        "unary": text.crf_unary_score(gold, lengths, inputs),
        "binary": text.crf_binary_score(gold, lengths, transitions),
    }
    found["tags"], found["score"] = text.crf_decode(tf.constant(inputs), tf.constant(transitions), lengths)
    found["constrained_tags"], found["constrained_score"] = text.crf_constrained_decode(
        tf.constant(inputs), tf.constant(bitmap), tf.constant(transitions), lengths
    )
    found["viterbi"], found["viterbi_score"] = text.viterbi_decode(inputs[0], transitions)
    if time > 1:
        found["forward"] = text.crf_forward(inputs[:, 1:], inputs[:, 0], transitions, lengths)
        less = np.maximum(lengths - 1, 0)
        pointers, state = text.crf_decode_forward(*map(tf.constant, (inputs[:, 1:], inputs[:, 0], transitions, less)))
        last = tf.cast(tf.argmax(state, axis=1), tf.int32)[:, None]
        found["pointers"], found["state"] = pointers, state
        found["backward"] = text.crf_decode_backward(tf.reverse_sequence(pointers, less, seq_axis=1), last)
    given = {"inputs": inputs, "transitions": transitions, "gold": gold, "bitmap": bitmap, "lengths": lengths}
    return given | {name: np.asarray(value) for name, value in found.items()}


def tagger():
    words = tf.keras.Input((None,), dtype="int32")
    x = tf.keras.layers.Embedding(30, 6, mask_zero=True)(words)
    tags, *rest = tfa.layers.CRF(5, name="crf")(tf.keras.layers.Dense(4)(x))
    return tf.keras.Model(words, [tags, *rest])


def main():
    rng = np.random.default_rng(0)
    cases = {
        "several": answers(rng, 5, 6, 4, [6, 3, 1, 0, 2]),
        "one_step": answers(rng, 3, 1, 4, [1, 0, 1]),
        "one_tag": answers(rng, 2, 4, 1, [4, 2]),
        "long": answers(rng, 2, 120, 7, [120, 77]),
    }
    tf.keras.utils.set_random_seed(1)
    model = tagger()
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    words = rng.integers(1, 30, (4, 7)) * (np.arange(7) < np.array([7, 5, 2, 1])[:, None])
    tags, potentials, lengths, kernel = model(words)
    cases["layer"] = {"words": words, "tags": tags, "potentials": potentials, "lengths": lengths, "kernel": kernel}
    flat = {f"{case}/{name}": np.asarray(value) for case, values in cases.items() for name, value in values.items()}
    np.savez_compressed(HERE / "golden.npz", **flat)
    model.save_weights(HERE / "tagger.h5")


if __name__ == "__main__":
    main()
