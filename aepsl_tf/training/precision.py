"""--precision=auto and --kernel_gradients=auto: whichever this machine trains faster with.

A CPU may have bfloat16 instructions or imitate them, several times slower than float32 is, and
what a library makes of them nobody can tell beforehand: so it is tried, with convolutions like
those of the trunk. A GPU has them from compute capability 8.0 on, and its library's gradients are
the fast ones.
"""

import functools
import operator
import time

import tensorflow as tf
from absl import logging

from aepsl_tf import quiet
from aepsl_tf.models import backbones

_SECONDS, _LEAST, _MOST = 1.0, 3, 10  # of the tries beside the first ones: how long, how many
_HOPELESS = 5.0  # who takes as many times the best one's time need not be tried again
_SIDE, _IMAGES = 25, 2  # cells a side: large enough to tell, small enough for who imitates bfloat16
_WORTH = {"precision": 0.9, "kernel_gradients": 0.97}
"""What is not the plain way must take no more than this share of its time: bfloat16 rounds to 8
bits, a sum over taps differs in its last bits alone.
"""


def choose(config):
    """What auto stands for on this machine.

    Args:
      config: a `config.Network`.

    Returns:
      (precision, why): why, for the manifest, is {"compute_capability": that of the least of the
      GPUs} or the seconds by precision, where one that cannot be trained in is left out.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        what = "two convolutions, forward and backward"
        return _fastest("precision", "float32", measure(config.backbone), what)
    details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
    least = min(found.get("compute_capability", (0, 0)) for found in details)
    precision = "mixed_bfloat16" if least >= (8, 0) else "float32"
    capability = ".".join(map(str, least))
    logging.info("--precision=auto: %s (compute capability %s)", precision, capability)
    return precision, {"compute_capability": capability}


def choose_gradients(config):
    """As `choose`, for --kernel_gradients of a network whose precision is settled."""
    why = None
    if tf.config.list_physical_devices("GPU"):
        why = "a GPU's own are the fast ones"
    elif not backbones.by_taps(config):
        why = "no convolution that learns has channels enough for taps"
    if why:
        logging.info("--kernel_gradients=auto: library (%s)", why)
        return "library", {"why": why}
    found = measure_gradients(config)
    return _fastest("kernel_gradients", "library", found, "kernels' gradients")


def _fastest(field, plain, found, what):
    """(value, why) of a field: the plain one, or a further one that is worth leaving it for.

    Args:
      found: {value: seconds of doing `what`}, the plainer first; one that this machine cannot do is
        not among them.
    """
    why, value = {name: round(seconds, 6) for name, seconds in found.items()}, plain
    for name, seconds in why.items():
        if name != plain and seconds <= _WORTH[field] * why.get(value, float("inf")):
            value = name
    said = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in why.items())
    logging.info("--%s=auto: %s (%s: %s)", field, value, what, said)
    return value, why


CHOOSE = {"precision": choose, "kernel_gradients": choose_gradients}


def measure(backbone):
    """{precision: seconds} that the trunk's middle convolutions take, forward and backward."""
    filters = backbones.middle_filters(backbone)
    layers = {
        name: [functools.partial(_layer, filters, d, name) for d in (1, 2)]
        for name in ("float32", "mixed_bfloat16")
    }
    return _best({
        name: functools.partial(_step, [_SIDE, filters], made) for name, made in layers.items()
    })  # fmt: skip


def measure_gradients(config):
    """{way: seconds} that the gradients of the kernels take in which the ways differ, one of each
    shape, and of the shapes of fewer channels the middle one, for all of them by their work;
    nothing else of a step, which would hide the difference behind its own noise.
    """

    def work(shape):
        channels, filters, side, _, stride = shape
        return channels * filters * (side / stride) ** 2

    many = sorted(backbones.by_taps(config, "taps"))
    few = sorted(backbones.by_taps(config, "all_taps").difference(many))
    shapes, ways = many + few[len(few) // 2 :][:1], ("library", "all_taps")
    best = [
        _best({way: functools.partial(_kernel, config, way, *shape) for way in ways}, len(shapes))
        for shape in shapes
    ]
    times = [1.0] * len(many) + [sum(map(work, few)) / work(shape) for shape in shapes[len(many) :]]
    taken = {"library": 0, "taps": len(many), "all_taps": len(shapes)}
    if not few:
        del taken["all_taps"]  # it is what taps is
    found = {}
    for way, count in taken.items():
        ran = [of.get(ways[index < count]) for index, of in enumerate(best)]
        if None not in ran:
            found[way] = sum(map(operator.mul, ran, times))
    return found


def _best(made, share=1):
    """Name → the least seconds of the step that `made[name]()` gives.

    Tries of all take turns, and the best of each counts, so that other work on this machine slows
    none alone. One that cannot be trained is left out.

    Args:
      share: of how many such races the time is.
    """
    steps, best = {}, {}
    with quiet.without(quiet.FAILED):
        for name, make in made.items():
            try:
                step = make()
                step()  # traced, and what a library prepares at the first call
            except tf.errors.OpError:
                continue
            steps[name], best[name] = step, float("inf")
    begun = time.monotonic()
    for tried in range(1, _MOST + 1):
        for name, step in steps.items():
            best[name] = min(best[name], _timed(step))
        limit = _HOPELESS * min(best.values(), default=0)
        steps = {name: step for name, step in steps.items() if best[name] <= limit}
        late = time.monotonic() - begun > _SECONDS / share
        if len(steps) < 2 or (late and tried >= _LEAST):
            break
    return best


def _timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _layer(filters, dilation, precision):
    return backbones.DilatedConv2D(
        filters, 3, padding="same", dilation_rate=dilation, activation="relu",
        kernel_initializer="he_normal", dtype=precision,
    )  # fmt: skip


def _kernel(config, way, channels, filters, side, dilation, stride):
    """`step()` computes the gradient of a convolution's kernel by one image: the shorter a try, the
    sooner one has the machine for itself.
    """
    layer = backbones.DilatedConv2D(
        filters, side, padding="same", dilation_rate=dilation, dtype=config.precision,
        kernel_gradients=way,
    )  # fmt: skip
    shown = [1, *[-(-config.input_size // stride)] * 2]
    given = [
        tf.cast(tf.random.stateless_uniform(shape, [0, 0]), layer.compute_dtype)
        for shape in ([*shown, channels], [side, side, channels, filters], [*shown, filters])
    ]

    def gradient(seen, kernel, made):
        return tf.gradients(layer.convolution_op(seen, kernel), kernel, made)[0]

    traced = tf.function(gradient, autograph=False).get_concrete_function(*given)
    return lambda: traced(*given)  # a CPU has done it when this returns


def _step(shape, layers):
    """`step()` computes the gradients of some layers, made here, and waits for them.

    Args:
      shape: (cells a side, channels) of their input.
    """
    side, channels = shape
    layers = [make() for make in layers]
    cells = tf.random.stateless_uniform([_IMAGES, side, side, channels], [0, 0])
    shown = cells.shape
    for layer in layers:
        layer.build(shown)
        shown = [*shown[:3], layer.filters]
    weights = [v.value for layer in layers for v in layer.trainable_variables]

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for layer in layers:
                y = layer(y)
            loss = tf.reduce_sum(tf.cast(y, tf.float32))
        return tape.gradient(loss, [x, *weights])

    traced = tf.function(gradients, autograph=False).get_concrete_function(cells)
    return lambda: [gradient.numpy() for gradient in traced(cells)]
