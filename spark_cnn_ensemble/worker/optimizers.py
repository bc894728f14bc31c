"""The part of a training step that changes the weights.

An optimizer has a `state`, the variables to reset for the next member. It is called with gradients (None where a
variable has none), the number of the step from 0, and the learning rate. Called by `trainer`.
"""

from __future__ import annotations

from typing import Any

_ADAM = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}  # the defaults of keras.optimizers.Adam


class FusedAdam:
    """Adam as one TensorFlow operation per variable; the same update as keras.optimizers.Adam without constraints.

    Source: D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    def __init__(self, variables: list[Any]) -> None:
        import tensorflow as tf

        self._moments = [(v, tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in variables]
        self.state = [moment for _, *moments in self._moments for moment in moments]

    def __call__(self, gradients: Any, step: Any, rate: Any) -> None:
        import tensorflow as tf

        power = tf.cast(step + 1, tf.float32)
        for (variable, first, second), gradient in zip(self._moments, gradients, strict=True):
            if gradient is not None:
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=first.handle,
                    v=second.handle,
                    beta1_power=tf.pow(_ADAM["beta1"], power),
                    beta2_power=tf.pow(_ADAM["beta2"], power),
                    lr=rate,
                    grad=gradient,
                    **_ADAM,
                )


class KerasOptimizer:
    """Any optimizer that Keras knows by name."""

    def __init__(self, variables: list[Any], name: str) -> None:
        import keras

        self._variables = variables
        self._optimizer = keras.optimizers.get(name)
        self._optimizer.build(self._variables)
        self.state = [variable.value for variable in self._optimizer.variables]

    def __call__(self, gradients: Any, step: Any, rate: Any) -> None:
        self._optimizer.learning_rate = rate
        pairs = [(g, v) for g, v in zip(gradients, self._variables, strict=True) if g is not None]
        self._optimizer.apply_gradients(pairs)
