"""The training step of a compiled Keras model on one worker of several."""

from typing import Any

import keras
import tensorflow as tf

from trellis.components import workers
from trellis.components.types import Tensor


def train_step(model: keras.Model, data: Any) -> dict[str, Tensor]:
    """Train on this worker's share of a batch as one process would on all of it.

    Gradients are summed over the workers before the optimizer clips them. As with Keras on one machine, the norm of a
    gradient by rows, that of an embedding, is taken before equal rows are added up: clipping is the same for one worker
    and for many.

    Args:
        model: compiled with a loss that divides by counts over all workers, see `trellis.components.workers`.
        data: inputs, targets and, where there are any, weights.

    Returns:
        `{"loss": …}`, the mean over the batches of the epoch so far.
    """
    inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = model.compute_loss(inputs, targets, outputs, weights, training=True)
        loss -= workers.surplus_penalty(model.trainable_variables)
        scaled = model.optimizer.scale_loss(loss)
    gradients = tape.gradient(scaled, [variable.value for variable in model.trainable_variables])
    rows = tf.cast(tf.shape(tf.nest.flatten(inputs)[0])[0], tf.float32)
    *gradients, loss, rows = workers.total([*gradients, loss, rows])
    model.optimizer.apply(gradients, model.trainable_variables)
    for metric in model.metrics:
        metric.update_state(loss, sample_weight=rows)
    return {metric.name: metric.result() for metric in model.metrics}
