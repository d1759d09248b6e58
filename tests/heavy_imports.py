"""Libraries that take seconds to import; none of our own modules. TensorFlow does less than usual with graphs."""

import keras  # noqa: F401
import mlflow  # noqa: F401
import tensorflow
from tensorflow.python.util import tf_stack

# Graphs of tests run a few times each: optimizing them takes longer than it saves, see conftest.py.
tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

# Where in Python each operation of a graph was made is only of use to somebody who debugs it.
_nowhere = tf_stack.extract_stack()
tf_stack.extract_stack = lambda stacklevel=1: _nowhere
