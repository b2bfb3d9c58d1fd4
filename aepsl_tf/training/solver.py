"""Caffe's solver on Keras optimizers: per-variable rates, L2 in the gradient, rate policies.

Caffe (SGDSolver): V ← m·V + lr·mult·(∇ + decay·W), W ← W − V. Keras's SGD with momentum is the
same update, so a subclass need only scale the rate and add the decay, variable by variable.
"""

import keras

from aepsl_tf.config import drop_epochs


class _LayerRates:
    """Mixin: `set_rates` gives each variable a rate multiplier and an L2 factor."""

    def set_rates(self, rates):
        """Args: rates: Keras variable path → (learning rate multiplier, L2 factor)."""
        self._rates = rates

    def update_step(self, gradient, variable, learning_rate):
        # Under the TensorFlow backend `variable` is a bare tf.Variable; the path is Keras's.
        path = self._trainable_variables[self._get_variable_index(variable)].path
        rate, decay = self._rates[path]
        if decay:
            gradient = gradient + decay * variable
        super().update_step(gradient, variable, learning_rate * rate)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # the train step has summed them (`TwoPartNetwork.train_step`)


class CaffeSGD(_LayerRates, keras.optimizers.SGD):
    """SGD with momentum as Caffe's SGDSolver does it."""


class LayerwiseAdam(_LayerRates, keras.optimizers.Adam):
    """Adam with the same per-layer rates; L2 joins the gradient."""


def learning_rate(config, steps_per_epoch):
    """The rate policy of a `config.Solver` as a Keras schedule over train steps.

    step: ×0.1 after each of --lr_drop_epochs (§4.1); poly: (1 − t/T)^0.9, DeepLab v2's.
    """
    if config.lr_policy == "poly":
        return keras.optimizers.schedules.PolynomialDecay(
            config.learning_rate, config.epochs * steps_per_epoch, 0.0, power=0.9
        )
    drops = [d for d in drop_epochs(config.lr_drop_epochs) if d < config.epochs]
    if not drops:
        return config.learning_rate
    # Keras keeps a value through its boundary step; Caffe drops at it.
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [d * steps_per_epoch - 1 for d in drops],
        [config.learning_rate * 0.1**i for i in range(len(drops) + 1)],
    )


def variable_rates(model, config):
    """Variable path → (rate multiplier, L2 factor): ×1/×2, last layers ×10/×20, no L2 on biases."""
    last = {w.path for w in model.last_layers()}
    rates = {}
    for variable in model.tuned.trainable_variables:
        bias = variable.path.endswith("bias")
        rate = config.last_layer_rate if variable.path in last else 1.0
        rates[variable.path] = (
            rate * (config.bias_rate if bias else 1.0), 0.0 if bias else config.weight_decay
        )  # fmt: skip
    return rates


def build(model, config, steps_per_epoch):
    """The optimizer of a model, ready to step (`config`: a `config.Solver`).

    Under mixed_float16 the loss is scaled, by as much as the gradients bear (Keras's way).
    """
    rate = learning_rate(config, steps_per_epoch)
    if config.optimizer == "sgd":
        optimizer = CaffeSGD(rate, momentum=config.momentum)
    else:
        optimizer = LayerwiseAdam(rate)
    optimizer.set_rates(variable_rates(model, config))
    if config.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.tuned.trainable_variables)
    return optimizer
