"""`tensorflow_addons.layers`, as far as it is about conditional random fields."""

from trellis.components.tensorflow_addons.layers import crf
from trellis.components.tensorflow_addons.layers.crf import CRF

__all__ = ["CRF", "crf"]
