"""The CRF of tensorflow-addons by its old names: `import trellis.tensorflow_addons as tfa`."""

from trellis.components.tensorflow_addons import layers, text

__all__ = ["layers", "text"]
