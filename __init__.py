"""Sequence models on Keras 3 and TensorFlow: layers, dynamic programs, configured pipelines, exports and their server.

    from trellis import CRF, NegativeLogLikelihood      # Keras layers and losses, see `trellis.layers`
    from trellis import lattice                         # forward-backward, Viterbi and their relatives
    import trellis.tensorflow_addons as tfa             # the CRF of tensorflow-addons by its old names

    run = trellis.train("model=bilstm_crf", "data=conll", "data.path=FOLDER")
    trellis.load("exports/bilstm_crf").tag("Mary Smith flew from Oslo to Lima.")
    trellis.show("exports/bilstm_crf", "Mary Smith flew from Oslo to Lima.")      # its lattice, in a notebook

Nothing is imported before it is used: `import trellis` alone loads neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trellis import lattice, layers, tensorflow_addons
    from trellis.layers import (
        CRF,
        GRU,
        HMM,
        IBM1,
        LSTM,
        MEMM,
        CharacterEncoder,
        IndependentTags,
        NegativeLogLikelihood,
        PeepholeLSTM,
        Pooling,
        SimpleRNN,
    )
    from trellis.pipelines.run import train
    from trellis.serve.model import load
    from trellis.serve.show import show

__version__ = "0.2.0"

__all__ = [
    "CRF",
    "GRU",
    "HMM",
    "IBM1",
    "LSTM",
    "MEMM",
    "CharacterEncoder",
    "IndependentTags",
    "NegativeLogLikelihood",
    "PeepholeLSTM",
    "Pooling",
    "SimpleRNN",
    "__version__",
    "lattice",
    "layers",
    "load",
    "show",
    "tensorflow_addons",
    "train",
]

_MODULES = ("lattice", "layers", "tensorflow_addons")
_FUNCTIONS = {"train": "trellis.pipelines.run", "load": "trellis.serve.model", "show": "trellis.serve.show"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"trellis.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return getattr(importlib.import_module("trellis.layers"), name)
    raise AttributeError(f"module 'trellis' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
