"""How much of a loss reaches earlier time steps: vanishing and exploding gradients, made visible."""

import numpy as np
import tensorflow as tf


def gradient_flow(model, tokens, targets, gain=1.0):
    """Norms of the gradient of the last word's loss with respect to the states of each time step.

    Pascanu, Mikolov and Bengio 2013. Norms are over all layers and states, averaged over the rows.

    Args:
        model: a `RecurrentLanguageModel`.
        tokens, targets: `(rows, time)` ids.
        gain: factor on the recurrent weights; above 1 gradients explode sooner.

    Returns:
        norms `(time,)`, the last step last; and the norm of the gradient of all weights.
    """
    kernels = [layer.cell.recurrent_kernel for layer in model.recurrent]
    former = [kernel.numpy() for kernel in kernels]
    for kernel, values in zip(kernels, former, strict=True):
        kernel.assign(values * gain)
    try:
        tokens, targets = tf.constant(tokens), tf.constant(targets)
        with tf.GradientTape(persistent=True) as tape:
            states, passed = model.initial_states(tf.shape(tokens)[0]), []
            for step in range(tokens.shape[1]):
                features, states = model.read(tokens[:, step : step + 1], states)
                states = [tf.identity(state) for state in states]
                passed.append(states)
            # The features are read off the last states, so that these have a gradient too.
            loss = -tf.reduce_mean(model.token_log_probabilities(features[:, 0], targets[:, -1]))
        rows = tf.cast(tf.shape(tokens)[0], tf.float32)
        norms = []
        for at_step in passed:
            gradients = [g for g in tape.gradient(loss, at_step) if g is not None]
            squares = sum(tf.reduce_sum(tf.square(g), axis=-1) for g in gradients) if gradients else tf.zeros([1])
            norms.append(float(tf.reduce_mean(tf.sqrt(squares)) * rows))
        weights = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        whole = float(tf.linalg.global_norm([each for each in weights if each is not None]))
    finally:
        for kernel, values in zip(kernels, former, strict=True):
            kernel.assign(values)
    # Nothing flows from the last step's output into its own state; what is told ends one step before.
    return np.array(norms[:-1]), whole
