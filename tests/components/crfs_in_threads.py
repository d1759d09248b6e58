"""CRFs that are trained in threads and with several outputs, on any Keras backend."""

import threading

import keras
import numpy as np

from trellis.components.layers.crf import CRF
from trellis.components.layers.sequence_head import NegativeLogLikelihood

STEPS = 12
WORDS = np.array([[1, 2, 3, 4], [4, 3, 0, 0], [2, 1, 2, 0]])


def tagger(tags, outputs=1):
    """Return a compiled model whose weights do not depend on random numbers."""
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(5, tags, mask_zero=True, embeddings_initializer="zeros")(inputs)
    heads = [CRF(name=f"head_{index}") for index in range(outputs)]
    model = keras.Model(inputs, [head(x) for head in heads])
    for head in heads:
        head.set_weights([np.zeros(weight.shape) for weight in head.weights])
    model.compile(keras.optimizers.SGD(0.3), loss=[NegativeLogLikelihood() for _ in heads])
    return model


def losses(model, tags):
    labels = [(WORDS + index) % tags for index in range(len(model.outputs))]
    return model.fit(WORDS, labels, epochs=STEPS, batch_size=3, verbose=0).history["loss"]


def in_threads(sizes):
    """Train a model for each number of tags in a thread of its own, step by step in turn."""
    models = [tagger(tags) for tags in sizes]
    results, start = [None] * len(sizes), threading.Barrier(len(sizes))

    def train(index):
        start.wait()
        results[index] = losses(models[index], sizes[index])

    threads = [threading.Thread(target=train, args=(index,)) for index in range(len(sizes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def answers():
    keras.utils.set_random_seed(0)
    sizes = [3, 4]
    return {
        "alone": [losses(tagger(tags), tags) for tags in sizes],
        "in threads": in_threads(sizes),
        "two outputs": losses(tagger(3, outputs=2), 3),
    }


def require_losses_of_models_trained_alone(found):
    for alone, threaded in zip(found["alone"], found["in threads"], strict=True):
        np.testing.assert_allclose(threaded, alone, rtol=1e-5)
    assert found["two outputs"][-1] < 0.5 * found["two outputs"][0]
