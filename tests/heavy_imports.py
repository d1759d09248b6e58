"""Libraries that take seconds to import; none of our own modules. Graphs are not optimized, see conftest.py."""

import keras  # noqa: F401
import mlflow  # noqa: F401
import tensorflow

tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
