"""The conditional random fields of `tensorflow_addons` for Keras 3: the same names, arguments and results.

    from trellis.components import tensorflow_addons as tfa

    tags, score = tfa.text.crf_decode(potentials, transitions, lengths)
    layer = tfa.layers.CRF(units=9)

`docs/how_to/from_tensorflow_addons.md` shows what to write instead in new code.
"""

from trellis.components.tensorflow_addons import layers, text

__all__ = ["layers", "text"]
