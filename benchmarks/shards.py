"""How much faster families are written by a pool and by Beam than by one process.

python -m benchmarks.shards --images=224 --shards=16 --workers=2

The work is a dense CRF on every image of a drawn family (500×375 pixels, 4 classes, about 0.35 s),
which is what `relabel` gives to workers; threads inside a worker are one. Prints seconds, the ratio
to the sequential run, CPU seconds and a digest of all shards, which must agree.
"""

import argparse
import os
import pathlib
import resource
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import cv2
import numpy as np

from aepsl_tf.data import encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import tables
from aepsl_tf.files import digest
from aepsl_tf.inference import crf
from benchmarks import heading

HEIGHT, WIDTH, CLASSES = 375, 500, 4


def smooth_noise(seed, channels):
    """float32 `[HEIGHT, WIDTH, channels]` in 0..1: coarse noise, enlarged."""
    coarse = np.random.default_rng(seed).random((15, 20, channels), np.float32)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def draw(number):
    """A row of an images family."""
    encoded = encoding.rgb_png(np.round(smooth_noise(number, 3) * 255).astype(np.uint8))
    return {
        "image/id": f"{number}", "image/encoded": encoded, "image/converted_from": "",
        "image/height": HEIGHT, "image/width": WIDTH,
        "image/pixel_sum": encoding.pixel_sum(encoded), "image/labels": [],
    }  # fmt: skip


def clean(row):
    """A row of a masks family: the CRF on probabilities that the image's number seeds."""
    picture = encoding.rgb_pixels(row["image/encoded"])
    probabilities = smooth_noise([int(row["image/id"]), 1], CLASSES)
    mask = crf.dense_crf(picture, probabilities, **crf.PRESETS["deeplab"])
    return {"image/id": row["image/id"], "mask/png": encoding.grey_png(mask)}


def cpu_seconds():
    """Of this process and the workers that have ended; what a busy machine leaves comparable."""
    return sum(sum(resource.getrusage(who)[:2])
               for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=224)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    ways = {"one process": 1, "pool": arguments.workers}
    try:
        ways["Beam"] = runners.Beam(arguments.workers)
    except InputError as error:
        print(f"Beam is left out: {error}")

    from benchmarks import shards  # workers find `clean` there, and not in this `__main__`

    print(heading(arguments))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        counts = records.split_counts(arguments.images, arguments.shards)
        starts = np.cumsum([0, *counts])
        (folder / "images").mkdir()
        records.write_family(
            folder / "images", "images", counts,
            lambda shard: range(starts[shard], starts[shard + 1]), shards.draw,
        )  # fmt: skip
        images, first, rows, digests = records.Family(folder / "images"), None, [], set()
        for name, workers in ways.items():
            target = folder / name
            target.mkdir()
            start, spent = time.monotonic(), cpu_seconds()
            records.write_family(target, "masks", counts, images.read, shards.clean, workers)
            seconds, spent = time.monotonic() - start, cpu_seconds() - spent
            first = first or seconds
            digests.add(digest(target))
            rows.append([name, f"{seconds:.1f}", f"{first / seconds:.2f}", f"{spent:.1f}",
                         digest(target)[:16]])  # fmt: skip
    tables.show(["", "seconds", "times faster", "CPU seconds", "digest"], rows)
    if len(digests) != 1:
        raise SystemExit("error: the shards differ")


if __name__ == "__main__":
    main()
