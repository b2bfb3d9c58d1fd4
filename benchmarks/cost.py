"""What the paper's run costs: measured rates of this machine, and an estimate for GPUs.

python -m benchmarks.cost VOCdevkit/VOC2012 --train_images=10582

Times, on this machine: a train step and a forward pass of VGG-16 LargeFOV at 321² in the way that
auto takes, and of a picture, in one process, all work that is not the network's. What they come to
over the phases that `flags/voc2012.flags` runs is arithmetic; `export` and `report`, which do not
grow with the splits, are left out. Of a GPU nothing is measured: its time is the counted GFLOP of
the convolutions by --gpu_tflops (a datasheet's) and --share, an assumption, and what is not the
network's runs on --gpu_cores of this machine's kind.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import tensorflow as tf

from aepsl_tf.data import encoding
from aepsl_tf.inference import cells, crf
from benchmarks import heading, layers, memory, processes, training
from data_prep import write_saliency
from data_prep.saliency import methods

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLAGS = "flags/voc2012.flags"
SIZE, EPOCHS = 321, 15
"""Of these flags."""

COSTS = {
    "write_voc/val": ("val", 0, 0, "write_voc"),
    "write_voc": ("train", 0, 0, "write_voc"),
    "write_saliency": ("train", 0, 0, "DRFI"),
    "train_classifier": ("train", EPOCHS, 0, None),
    "mine_regions": ("train", 0, 1, None),
    "write_erased": ("train", 0, 0, "write_erased"),
    "make_masks": ("train", 0, 0, "make_masks"),
    "evaluate/masks": ("train", 0, 0, "evaluate masks"),
    "train_segmenter": ("train", EPOCHS, 0, None),
    "relabel": ("train", 0, 1, "CRF"),
    "evaluate": ("val", 0, 1, "CRF"),
}
"""What a phase's key begins with, the first that fits → split; of each of its pictures: train
steps, forward passes, one process's work.
"""
_PREPARE = ("write_voc", "write_saliency", "train_classifier, crops", "mine_regions",
            "write_erased", "make_masks", "evaluate masks")  # fmt: skip


def measured(devkit, images):
    """({work: seconds a picture}, of one process where it is not the network's; auto's way)."""
    ids = (devkit / "ImageSets/Segmentation/train.txt").read_text().split()[:images]
    rows = [{"image/id": i, "image/encoded": (devkit / f"JPEGImages/{i}.jpg").read_bytes()}
            for i in ids]  # fmt: skip
    pictures = [encoding.rgb_pixels(row["image/encoded"]) for row in rows]
    preset, drfi = crf.PRESETS["deeplab"], methods.build("drfi")

    def each(work, items):
        work(items[0])  # loads, traces
        start = time.perf_counter()
        for item in items:
            work(item)
        return (time.perf_counter() - start) / len(items)

    found = {
        "CRF": each(lambda one: cells.crf_mask(preset, one),
                    [processes.drawn_cells(p, n) for n, p in enumerate(pictures)]),
        "DRFI": each(lambda row: write_saliency.row_of(drfi, row), rows),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        folder, many = pathlib.Path(folder), 20 * images
        memory.repeat_devkit(devkit, folder / "devkit", many, images)
        # Of a tiny network's run only what has no network is kept.
        taken = {name: memory.run_alone(name, folder)[1] / many for name in _PREPARE}
    found |= {name: taken[name] for *_, name in COSTS.values() if name in taken}
    way, _ = training.auto(SIZE)
    batch, step = 4, training.Ours("segmenter", 4, SIZE, *way)
    found["train step"] = step.seconds(3) / (3 * batch)
    shown, model = step.batch["image"], step.model
    forward = tf.function(lambda: model.cells(model.frozen(shown, training=False))["logits"])
    found["forward"] = each(lambda _: forward().numpy(), range(3)) / batch
    return found, way


def phases(devkit):
    """{what a phase's key begins with: how many of them `flags/voc2012.flags` runs}."""
    command = [sys.executable, "-m", "aepsl_tf.pipeline", f"--flagfile={FLAGS}", "--dry_run"]
    with tempfile.TemporaryDirectory() as folder:
        command += [f"--run_dir={folder}/run", f"--voc_root={devkit.resolve()}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    keys = (line.split()[-1] for line in done.stdout.splitlines())
    found = (next((name for name in COSTS if key.startswith(name)), None)
             for key in keys if not key.endswith("/ground_truth"))  # fmt: skip
    return collections.Counter(name for name in found if name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("devkit", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=10, help="that are timed")
    parser.add_argument("--train_images", type=int, default=10582)
    parser.add_argument("--val_images", type=int, default=1449)
    parser.add_argument("--gpu_tflops", type=float, default=989, help="H100's, bfloat16, dense")
    parser.add_argument("--share", type=float, default=0.25, help="of it that is reached")
    parser.add_argument("--gpu_cores", type=int, default=16, help="beside each GPU")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rates, way = measured(arguments.devkit, arguments.images)
    said = ", ".join(f"{name} {s:.3f} s" for name, s in rates.items())
    print(heading(arguments))
    print(f"{', '.join(way)}. A picture: {said}.\n")
    forward = sum(layers.gflop(*one) for one in layers.convolutions(
        SIZE, precision="float32", kernel_gradients="library"))  # fmt: skip
    step = layers.step_gflop(SIZE)
    splits = {"train": arguments.train_images, "val": arguments.val_images}
    print(f"{splits['train']} pictures to train on, {splits['val']} to evaluate on; hours, of GPUs "
          f"estimated: {arguments.gpu_tflops:.0f} TFLOP/s by {arguments.share:.2f}, "
          f"{arguments.gpu_cores} cores a GPU.\n")  # fmt: skip
    print(f"| phase | times | {cores} cores | one GPU | eight GPUs |\n|---|---:|---:|---:|---:|")
    total, of_crf = [0, 0, 0], 0
    for name, times in phases(arguments.devkit).items():
        split, steps, passes, alone = COSTS[name]
        pictures = times * splits[split] / 3600
        here = steps * rates["train step"] + passes * rates["forward"]
        gpu = steps * step + passes * forward
        gpu /= 1000 * arguments.gpu_tflops * arguments.share
        single = rates[alone] if alone else 0
        one_gpu = gpu + single / arguments.gpu_cores
        hours = [pictures * s for s in (here + single / cores, one_gpu, one_gpu / 8)]
        total = [a + b for a, b in zip(total, hours, strict=True)]
        of_crf += pictures * single / cores * (alone == "CRF")
        print(f"| {name} | {times} | {' | '.join(f'{h:.2f}' for h in hours)} |")
    print(f"| all | | {' | '.join(f'{h:.2f}' for h in total)} |\n")
    print(f"The CRF takes {of_crf:.2f} hours of {cores} cores, {of_crf / total[0]:.1%} of all.")


if __name__ == "__main__":
    main()
