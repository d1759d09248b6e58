"""Libraries that take seconds to import; none of our own modules."""

import alembic.migration  # noqa: F401
import hydra  # noqa: F401
import keras  # noqa: F401
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
import tensorflow

from tests import shortcuts

# Graphs of tests run a few times each: optimizing them takes longer than it saves. `make train` and `make wheel` do.
tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
shortcuts.take()
