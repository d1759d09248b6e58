"""Adam, each variable in one kernel."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("trellis")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` (Kingma and Ba 2015), faster on CPU.

    Same arguments, state and updates, but each variable is updated by one fused TensorFlow kernel instead of ten passes
    over it: with a large embedding table those are a sizeable part of a training step.
    """

    def update_step(self, gradient, variable, learning_rate):
        step = tf.cast(self.iterations + 1, tf.float32)
        index = self._get_variable_index(variable)
        handles = (_handle(each) for each in (variable, self._momentums[index], self._velocities[index]))
        tf.raw_ops.ResourceApplyAdam(
            **dict(zip(("var", "m", "v"), handles, strict=True)),
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.convert_to_tensor(gradient),
        )


def _handle(variable):
    # Keras hands over the tf.Variable itself where the update runs under a distribution strategy.
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
