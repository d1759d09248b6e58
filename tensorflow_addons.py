"""The CRF of tensorflow-addons by its old names: `import trellis.tensorflow_addons as tfa`.

Its modules can be imported by their old names too: `from trellis.tensorflow_addons.text.crf import crf_decode`.
"""

import sys

from trellis.components.tensorflow_addons import layers, text

__all__ = ["layers", "text"]

for _module in (layers, layers.crf, text, text.crf, text.crf_wrapper):
    # Aliases, so that no class is registered with Keras twice.
    sys.modules[f"{__name__}{_module.__name__.removeprefix('trellis.components.tensorflow_addons')}"] = _module
