"""How long DRFI takes, where the time goes, what a second process brings, and what memory it needs.

python -m benchmarks.saliency_speed FOLDER_OF_JPEGS [--images=60] [--height=375 --width=500]

Run it on a quiet machine. Images are those of the given size, in order of their names.
"""

import argparse
import collections
import pathlib
import resource
import time

import cv2
import numpy as np
from PIL import Image

from aepsl_tf.data import runners
from data_prep.saliency import descriptors, drfi, methods

PARTS = (
    (drfi, "shrink"), (descriptors, "measure"), (drfi, "segment"), (descriptors, "region_sums"),
    (descriptors, "frame_sums"), (drfi, "merge"), (descriptors, "merge_sums"),
    (descriptors, "describe"), (drfi.Forest, "predict"),
)  # fmt: skip


def pick(folder, count, height, width):
    """The first `count` pictures of that size."""
    found = []
    for path in sorted(pathlib.Path(folder).glob("*.jpg")):
        with Image.open(path) as picture:
            if picture.size == (width, height):
                found.append(path)
        if len(found) == count:
            return found
    raise SystemExit(f"{folder}: only {len(found)} pictures of {width}×{height}")


def rgb(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def saliency(compute, path):
    """Makes one map: CPU seconds it took, and this process's peak memory in MiB after it."""
    start = time.process_time()
    compute(path.stem, rgb(path))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.process_time() - start, peak


def profile(compute, paths):
    """Mean milliseconds of CPU time an image, by part; and of the whole."""
    spent = collections.Counter()

    def timed(owner, name):
        real = getattr(owner, name)

        def call(*arguments):
            start = time.process_time()
            answer = real(*arguments)
            spent[name] += time.process_time() - start
            return answer

        setattr(owner, name, call)
        return lambda: setattr(owner, name, real)

    saliency(compute, paths[0])  # the model is loaded
    undo = [timed(*part) for part in PARTS]
    images = [rgb(p) for p in paths]
    start = time.process_time()
    for path, image in zip(paths, images, strict=True):
        compute(path.stem, image)
    total = time.process_time() - start
    for restore in undo:
        restore()
    return {k: 1000 * v / len(paths) for k, v in spent.most_common()}, 1000 * total / len(paths)


class Worker:
    """`saliency` of paths as a pool takes it."""

    def __init__(self, compute):
        self.compute = compute

    def __call__(self, path):
        return saliency(self.compute, path)


def throughput(compute, paths, processes):
    """(wall seconds an image, CPU seconds an image, peak MiB half way, peak MiB at the end).

    The clocks start after half of the images, when all processes have long started.
    """
    half, walls, cpus, peaks = len(paths) // 2, [], [], []
    for cpu, peak in runners.ordered_map(Worker(compute), paths, processes):
        walls.append(time.perf_counter())
        cpus.append(cpu)
        peaks.append(peak)
    wall = (walls[-1] - walls[half - 1]) / (len(paths) - half)
    return wall, float(np.mean(cpus[half:])), max(peaks[:half]), max(peaks)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--width", type=int, default=500)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    paths = pick(args.folder, args.images, args.height, args.width)
    compute = methods.build("drfi")
    parts, total = profile(compute, paths)
    print(f"CPU time an image, one thread: {total:.0f} ms")
    for name, milliseconds in parts.items():
        print(f"  {name:12} {milliseconds:6.1f} ms {milliseconds / total:5.0%}")
    walls = []
    for processes in (1, 2):
        wall, cpu, early, late = throughput(compute, paths, processes)
        walls.append(wall)
        print(f"{processes} processes: {wall:.3f} s and {cpu:.3f} CPU s an image; "
              f"peak {early:.0f} MiB half way, {late:.0f} MiB at the end")  # fmt: skip
    print(f"two processes are {walls[0] / walls[1]:.2f} times as fast as one")


if __name__ == "__main__":
    # Spawned workers look functions up by module, which for a script's own would be __main__.
    from benchmarks import saliency_speed

    saliency_speed.main()
