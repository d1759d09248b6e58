"""How much of a loss reaches earlier time steps: vanishing and exploding gradients, made visible."""

import numpy as np
import tensorflow as tf

from trellis.components.models.language_model import RecurrentLanguageModel
from trellis.components.types import TokenIds


def gradient_flow(
    model: RecurrentLanguageModel, tokens: TokenIds, targets: TokenIds, gain: float = 1.0
) -> tuple[np.ndarray, float]:
    """Measure the gradient of the last word's loss with respect to the states of each time step.

    After Pascanu, Mikolov and Bengio 2013. Norms are over all layers and states, averaged over the rows.

    Args:
        model: the model; its weights are restored afterwards.
        tokens, targets: `(rows, time)` ids.
        gain: factor on the recurrent weights; above 1, gradients explode sooner.

    Returns:
        The norms at all time steps but the last, whose output does not flow into its own state; and the norm of the
        gradient of all weights.
    """
    kernels = [layer.cell.recurrent_kernel for layer in model.recurrent]
    original = [kernel.numpy() for kernel in kernels]
    for kernel, values in zip(kernels, original, strict=True):
        kernel.assign(values * gain)
    try:
        tokens, targets = tf.constant(tokens), tf.constant(targets)
        with tf.GradientTape() as tape:
            states, history = model.initial_states(tf.shape(tokens)[0]), []
            for step in range(tokens.shape[1]):
                features, states = model.read(tokens[:, step : step + 1], states)
                states = [tf.identity(state) for state in states]
                history.append(states)
            loss = -tf.reduce_mean(model.token_log_probabilities(features[:, 0], targets[:, -1]))
        # One pass backwards, whatever the number of steps.
        variables = [variable.value for variable in model.trainable_variables]
        flow, weights = tape.gradient(loss, (history, variables), unconnected_gradients=tf.UnconnectedGradients.ZERO)
        rows = tf.cast(tf.shape(tokens)[0], tf.float32)
        squares = [tf.add_n([tf.reduce_sum(tf.square(state), axis=-1) for state in states]) for states in flow]
        norms = [float(tf.reduce_mean(tf.sqrt(square)) * rows) for square in squares]
        total = float(tf.linalg.global_norm(weights))
    finally:
        for kernel, values in zip(kernels, original, strict=True):
            kernel.assign(values)
    return np.array(norms[:-1]), total
