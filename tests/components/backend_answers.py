"""Print answers of the lattice, of heads and of CRFs in threads as JSON, on the backend that KERAS_BACKEND names."""

import json

import keras
import numpy as np
from keras import ops

from tests.components import crfs_in_threads
from trellis.components.lattice import linear_chain, paths, spans
from trellis.components.layers.crf import CRF
from trellis.components.layers.memm import MEMM
from trellis.components.layers.sequence_head import NegativeLogLikelihood


def of_lattices():
    rng = np.random.default_rng(0)
    results = {}
    lengths = np.array([6, 3, 1, 0], "int32")
    for name, scale, shape in (("same", 1.0, (4, 4)), ("large", 40.0, (4, 4)), ("varying", 1.0, (4, 5, 4, 4))):
        drawn = [(rng.normal(size=size) * scale).astype("float32") for size in ((4, 6, 4), shape, (4,), (4,))]
        emissions, *chain = map(ops.convert_to_tensor, drawn)
        potentials = (emissions, ops.convert_to_tensor(lengths), *chain)
        results[name] = [
            linear_chain.log_partition(*potentials),
            linear_chain.marginals(*potentials),
            linear_chain.pair_marginals(*potentials),
            linear_chain.entropy(*potentials),
            *paths.viterbi(*potentials),
            *(ops.clip(ops.cast(values, "float32"), -1e6, 1e6) for values in paths.k_best(*potentials, k=3)),
        ]
        of_tags = [-1, 0, 0, 1], np.triu(np.ones((4, 4), bool)) & (np.arange(4) == 2)
        asked = np.array([[0, 2, 1]] * 4), np.array([[2, 5, 2]] * 4), np.array([[0, 0, 1]] * 4)
        results[name] += [
            spans.span_marginals(*potentials, *asked, *of_tags),
            spans.all_span_marginals(*potentials, *of_tags, 3),
        ]
        assert paths.sample(*potentials, samples=2, seed=1).shape == (4, 2, 6)
    return as_lists(results)


def of_heads():
    results = {}
    words = np.array([[1, 2, 3, 4], [4, 3, 0, 0], [0, 0, 2, 2]])
    for head in (CRF, MEMM):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None,), dtype="int32")
        x = keras.layers.Embedding(5, 3, mask_zero=True, embeddings_initializer="zeros")(inputs)
        model = keras.Model(inputs, head()(x))
        model.layers[-1].set_weights([np.zeros(weight.shape) for weight in model.layers[-1].weights])
        model.compile(keras.optimizers.SGD(0.5), loss=NegativeLogLikelihood())
        losses = model.fit(words, words % 3, epochs=10, batch_size=3, verbose=0).history["loss"]
        results[head.__name__] = [losses, model.predict(words, verbose=0)]
    return as_lists(results)


def as_lists(results):
    return {name: [ops.convert_to_numpy(array).tolist() for array in values] for name, values in results.items()}


if __name__ == "__main__":
    # One process answers everything: to import a backend takes seconds.
    print(json.dumps({"functions": of_lattices() | of_heads(), "threads": crfs_in_threads.answers()}))
