"""The train step beside PyTorch's: images per second, by turns in one run.

python -m benchmarks.training --kinds=segmenter,classifier --batches=2,4,8

VGG-16 LargeFOV on resident input, all layers learning. Each row is ours in one precision and with
one way to the kernels' gradients, against the twin (`benchmarks/torch_twin.py`) in its own faster
precision (it is not asked in bfloat16 where auto's tries say that this machine imitates it); ratio:
our seconds by its seconds, median (least to most) over the rounds. "auto" marks the row that
`--precision=auto --kernel_gradients=auto` take when asked at the start. "limit" is the share that
the convolutions' GFLOP a second, of the whole step, have of the fastest forward convolution's in
that precision (`benchmarks.layers`), timed before and after. --torch names the Python that has
torch.
"""

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from aepsl_tf import config
from aepsl_tf.models import model_dir
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter
from aepsl_tf.training import precision, solver
from benchmarks import heading, layers, median

PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
"""--precision → the twin's."""
HOPELESS = 3.0  # times float32's: where a precision takes more, the twin is not asked in it


class Twin:
    """PyTorch's steps, in a process of their own that waits between turns."""

    def __init__(self, python, kind, batch, size, precision):
        self.process = subprocess.Popen(
            [python, f"{os.path.dirname(__file__)}/torch_twin.py", f"--kind={kind}",
             f"--batch={batch}", f"--size={size}", f"--precision={precision}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
        )  # fmt: skip
        self.version = self.process.stdout.readline().removeprefix("ready").strip()
        if not self.version:
            raise SystemExit(f"error: {python} did not start the twin; its message is above")

    def seconds(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self):
        self.process.communicate()


class Ours:
    """Our step on one resident batch."""

    def __init__(self, kind, batch, size, precision, way):
        cls, settings = {
            "classifier": (Classifier, config.TrainClassifier),
            "segmenter": (Segmenter, config.TrainSegmenter),
        }[kind]
        settings = settings(backbone="vgg16", weights="none", input="crop", input_size=size,
                            global_batch=batch, precision=precision, kernel_gradients=way,
                            learning_rate=1e-5,
                            **({"psl_start": 0} if kind == "segmenter" else {}))  # fmt: skip
        model_dir.start_over(settings)
        model = cls(settings, 20)
        model.compile(optimizer=solver.build(model, settings, 100))
        rng, cells = np.random.default_rng(0), (size + 7) // 8
        given = {
            "image": rng.uniform(0, 255, [batch, size, size, 3]).astype(np.float32),
            "labels": np.eye(20, dtype=np.float32)[np.arange(batch) % 20],
            "present": np.ones(batch, np.float32),
        }
        if kind == "segmenter":
            model.psl_active.assign(1.0)
            given["mask"] = rng.integers(0, 21, [batch, cells, cells]).astype(np.uint8)
        self.batch = {name: tf.constant(value) for name, value in given.items()}
        self.model, self.step = model, tf.function(model.train_step, autograph=False)
        self.seconds(2)

    def seconds(self, steps):
        start = time.perf_counter()
        for _ in range(steps):
            logs = self.step(self.batch)
        float(logs["loss"])
        return time.perf_counter() - start


def auto(size=321):
    """((--precision, --kernel_gradients) that auto takes on this machine, by which seconds)."""
    asked = config.TrainSegmenter(
        backbone="vgg16", input_size=size, precision="auto", kernel_gradients="auto"
    )
    dtype, by = precision.choose(asked)
    way, also = precision.choose_gradients(dataclasses.replace(asked, precision=dtype))
    return (dtype, way), by | also


def _limits(ways, batch, size):
    return {dtype: layers.best_rate(batch, size, dtype) for dtype in dict(ways)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", default="segmenter,classifier")
    parser.add_argument("--batches", default="2,4,8")
    parser.add_argument("--size", type=int, default=321)
    parser.add_argument("--gradients", default="library,taps,all_taps", help="by commas")
    parser.add_argument("--steps", type=int, default=2, help="a turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--auto", action="store_true", help="only the way that auto takes")
    parser.add_argument("--torch", default=sys.executable, help="'' leaves the twin out")
    arguments = parser.parse_args()
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:  # the twin wants some too
        tf.config.experimental.set_memory_growth(gpu, True)
    names = [tf.config.experimental.get_device_details(g).get("device_name") for g in gpus]
    print(heading(arguments, *names))
    taken, by = auto(arguments.size)
    print(f"auto takes {', '.join(taken)}: {by}\n")
    every = [(p, way) for p in PRECISIONS for way in arguments.gradients.split(",")]
    ways = [taken] if arguments.auto else every
    print("| step | ours, images/s | limit | PyTorch | seconds, ours / PyTorch |\n"
          "|---|---:|---:|---:|---:|")  # fmt: skip
    asked = PRECISIONS if arguments.torch else {}
    peers = [peer for dtype, peer in asked.items() if hopeful(dtype, by)]
    for kind in arguments.kinds.split(","):
        for batch in map(int, arguments.batches.split(",")):
            rows(arguments, kind, batch, ways, taken, peers)


def hopeful(dtype, by):
    """Whether a precision is not one that this machine imitates, by what auto has tried."""
    return dtype not in by or by[dtype] <= HOPELESS * by["float32"]


def rows(arguments, kind, batch, ways, taken, peers):
    """Times ours in each way, and the twin in each precision, by turns; prints a row of each way.

    Args:
      taken: the way that auto takes.
      peers: the twin's precisions.
    """
    wanted = batch, arguments.size
    limits = [_limits(ways, *wanted)]
    timed = {("ours", *way): Ours(kind, *wanted, *way) for way in ways}
    timed |= {("twin", p): Twin(arguments.torch, kind, *wanted, p) for p in peers}
    rounds = [{who: one.seconds(arguments.steps) for who, one in timed.items()}
              for _ in range(arguments.rounds)]  # fmt: skip
    limits.append(_limits(ways, *wanted))
    medians = {who: statistics.median(r[who] for r in rounds) for who in timed}
    twins = {who: s for who, s in medians.items() if who[0] == "twin"}
    best = min(twins, key=twins.get, default=None)

    def rate(who):
        return arguments.steps * batch / medians[who]

    for way in ways:
        ours, limit = rate(("ours", *way)), max(found[way[0]] for found in limits)
        share = ours * layers.step_gflop(arguments.size) / limit
        peer = "– | –"
        if best:
            ratio = median([r["ours", *way] / r[best] for r in rounds])
            peer = f"{rate(best):.2f} ({best[1]}) | {ratio}"
        name = ", ".join((kind, f"B = {batch}", *way, *["auto"] * (way == taken)))
        print(f"| {name} | {ours:.2f} | {share:.2f} | {peer} |", flush=True)
    for one in timed.values():
        if isinstance(one, Twin):
            one.close()


if __name__ == "__main__":
    main()
