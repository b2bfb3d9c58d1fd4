"""--precision=auto: float32 or bfloat16, whichever this machine trains faster in.

A CPU may have bfloat16 instructions or imitate them, several times slower than float32 is, and
what a library makes of them nobody can tell beforehand: so it is tried, with convolutions like
those of the trunk. A GPU has them from compute capability 8.0 on.
"""

import time

import tensorflow as tf
from absl import logging

from aepsl_tf import quiet
from aepsl_tf.models import backbones

_SECONDS, _ROUNDS = 1.0, 10  # what the tries may take beside the first ones, and how many they are
_SIDE, _IMAGES = 25, 2  # cells a side: large enough to tell, small enough for who imitates bfloat16
_WORTH = 0.9
"""bfloat16 rounds to 8 bits: it must take no more than this share of float32's time."""


def choose(config):
    """What auto stands for on this machine.

    Args:
      config: a `config.Network`.

    Returns:
      (precision, why): why, for the manifest, is {"compute_capability": that of the least of the
      GPUs} or the seconds by precision; one that cannot be trained in is left out.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        least = min(found.get("compute_capability", (0, 0)) for found in details)
        why = {"compute_capability": ".".join(map(str, least))}
        fast, said = least >= (8, 0), f"compute capability {why['compute_capability']}"
    else:
        why = {name: round(seconds, 4) for name, seconds in measure(config.backbone).items()}
        fast = why.get("mixed_bfloat16", float("inf")) <= _WORTH * why["float32"]
        said = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in why.items())
        said = f"two convolutions, forward and backward: {said}"
    precision = "mixed_bfloat16" if fast else "float32"
    logging.info("--precision=auto: %s (%s)", precision, said)
    return precision, why


def measure(backbone):
    """{precision: seconds} that the trunk's middle convolutions take, forward and backward.

    Tries of both take turns, and the best of each counts, so that other work on this machine
    slows neither alone.
    """
    steps, best = {}, {}
    with quiet.without(quiet.FAILED):
        for name in ("float32", "mixed_bfloat16"):
            try:
                step = _step(backbone, name)
                step()  # traced, and what a library prepares at the first call
            except tf.errors.OpError:
                continue
            steps[name], best[name] = step, float("inf")
    begun = time.monotonic()
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            best[name] = min(best[name], _timed(step))
        if time.monotonic() - begun > _SECONDS:
            break
    return best


def _timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _step(backbone, precision):
    """`step()` computes the gradients of a convolution and a dilated one, and waits for them."""
    filters = backbones.middle_filters(backbone)
    layers = [
        backbones.DilatedConv2D(
            filters, 3, padding="same", dilation_rate=dilation, activation="relu",
            kernel_initializer="he_normal", dtype=precision,
        )
        for dilation in (1, 2)
    ]  # fmt: skip
    cells = tf.random.stateless_uniform([_IMAGES, _SIDE, _SIDE, filters], [0, 0])
    for layer in layers:
        layer.build(cells.shape)
    weights = [v.value for layer in layers for v in layer.trainable_variables]

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for layer in layers:
                y = layer(y)
            loss = tf.reduce_sum(tf.cast(y, tf.float32))
        return tape.gradient(loss, [x, *weights])

    traced = tf.function(gradients).get_concrete_function(cells)
    return lambda: [gradient.numpy() for gradient in traced(cells)]
