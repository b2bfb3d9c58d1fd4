"""The convolutions of VGG-16 LargeFOV one by one: the rate that this machine is able to, and what
of a train step they are.

python -m benchmarks.layers --batch=4

Each convolution's own work, its gradient's by the input and that by the kernel, on resident values
of the real shape, in GFLOP/s (a multiplication and an addition are two). "share" is the whole
layer's rate by the best forward rate of any. The last row is what all of them take together: more
than that a train step spends on all else.
"""

import argparse
import functools
import statistics
import time

import keras
import tensorflow as tf

from aepsl_tf import config
from aepsl_tf.models import backbones
from benchmarks import heading, settled

TASKS = ("forward", "gradient by the input", "gradient by the kernel")


def convolutions(size, **changes):
    """[(layer, cells a side, channels it sees)] of the network, in order.

    Args:
      size: pixels a side.
      changes: of a `config.TrainSegmenter`.
    """
    settings = config.TrainSegmenter(
        backbone="vgg16", weights="none", input="crop", input_size=size, **changes
    )
    frozen, tuned = backbones.build(settings)
    cells, channels, found = size, 3, []
    for layer in (*frozen.layers, *tuned.layers):
        if isinstance(layer, keras.layers.Conv2D):
            found.append((layer, cells, channels))
            channels = layer.filters
        elif isinstance(layer, keras.layers.MaxPool2D):
            cells = -(-cells // layer.strides[0])
    return found


def gflop(layer, cells, channels):
    """Of one picture's forward pass, without what taps would see beyond the border, which a library
    may leave out (a third of fc6's); each of the two gradients has as many.
    """
    side, dilation = layer.kernel_size[0], layer.dilation_rate[0]
    seen = sum(max(cells - abs(dilation * (tap - side // 2)), 0) for tap in range(side))
    return 2e-9 * seen**2 * channels * layer.filters


def step_gflop(size):
    """Of one picture's train step, all layers learning: nobody asks for the input's gradient."""
    works = [gflop(*one) for one in convolutions(size, precision="float32",
                                                 kernel_gradients="library")]  # fmt: skip
    return 3 * sum(works) - works[0]


def seconds(layer, cells, channels, batch, rounds, tasks=TASKS):
    """{task: seconds}, medians."""
    shape, dtype = [batch, cells, cells, channels], layer.compute_dtype
    seen = tf.random.stateless_normal(shape, [0, 0], dtype="float32")
    seen = tf.Variable(tf.cast(seen, dtype))  # else a constant is worked on once and for all
    kernel = tf.cast(layer.kernel, dtype)
    made = tf.Variable(tf.ones([*shape[:3], layer.filters], dtype))

    @tf.function
    def run(task):
        inputs = tf.convert_to_tensor(seen)
        found = layer.convolution_op(inputs, kernel)
        if task == "forward":
            return found
        by = inputs if task == "gradient by the input" else kernel
        return tf.gradients(found, by, grad_ys=tf.convert_to_tensor(made))[0]

    return {task: statistics.median(_timed(functools.partial(run, task), rounds)) for task in tasks}


def _timed(work, rounds):
    for _ in range(2):
        work()
    for _ in range(rounds):
        start = time.perf_counter()
        tf.reduce_max(work()[..., 0]).numpy()  # waits for the device
        yield time.perf_counter() - start


def best_rate(batch, size, precision, rounds=3):
    """GFLOP/s of the fastest forward convolution of the network."""
    rates, seen = [], set()
    for layer, *shape in convolutions(size, precision=precision, kernel_gradients="library"):
        if (key := (*shape, layer.filters, layer.dilation_rate)) not in seen:
            seen.add(key)
            taken = seconds(layer, *shape, batch, rounds, ["forward"])
            rates.append(batch * gflop(layer, *shape) / taken["forward"])
    return max(rates)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--precision", default="auto",
                        choices=["auto", "float32", "mixed_bfloat16"])  # fmt: skip
    parser.add_argument(
        "--kernel_gradients", default="library", choices=["library", "taps", "all_taps"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    devices = (d.name for d in tf.config.list_physical_devices("GPU"))
    print(heading(arguments, *devices))
    found = convolutions(arguments.size, precision=settled(arguments.precision),
                         kernel_gradients=arguments.kernel_gradients)  # fmt: skip
    rows = [(one[0].name, arguments.batch * gflop(*one),
             seconds(*one, arguments.batch, arguments.rounds)) for one in found]  # fmt: skip
    best = max(work / taken["forward"] for _, work, taken in rows)
    print(f"| layer | GFLOP | {' | '.join(TASKS)} | s | share |\n|---|{'---:|' * 6}")
    for name, work, taken in rows:
        rates = " | ".join(f"{work / taken[task]:.0f}" for task in TASKS)
        together = sum(taken.values())
        print(f"| {name} | {work:.1f} | {rates} | {together:.3f} | "
              f"{3 * work / together / best:.2f} |")  # fmt: skip
    works, sums = sum(r[1] for r in rows), [sum(r[2][task] for r in rows) for task in TASKS]
    rates = " | ".join(f"{works / taken:.0f}" for taken in sums)
    print(f"| all | {works:.1f} | {rates} | {sum(sums):.3f} | {3 * works / sum(sums) / best:.2f} |")


if __name__ == "__main__":
    main()
