"""Libraries that take seconds to import; none of our own modules."""

import keras  # noqa: F401
import mlflow  # noqa: F401
import tensorflow  # noqa: F401
