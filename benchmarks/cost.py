"""What the paper's run costs: measured rates of this machine, and an estimate for GPUs.

python -m benchmarks.cost VOCdevkit/VOC2012 --images_of_split=10582

Times, on this machine: a train step and a forward pass of VGG-16 LargeFOV at 321² in the precision
that --precision=auto takes, the CRF, DRFI and `write_voc` of a picture in one process. What they
come to over a split is arithmetic. Of a GPU nothing is measured: its time is the counted GFLOP of
the convolutions by --gpu_tflops (a datasheet's) and --share, an assumption, and what is not the
network's runs on --gpu_cores of this machine's kind.
"""

import argparse
import dataclasses
import os
import pathlib
import tempfile
import time

import tensorflow as tf

from aepsl_tf import config
from aepsl_tf.data import encoding
from aepsl_tf.inference import cells, crf
from aepsl_tf.run_dir import RunDir
from aepsl_tf.training import precision
from benchmarks import layers, memory, processes, training
from data_prep import write_saliency, write_voc
from data_prep.saliency import methods

SIZE, EPOCHS, STEPS = 321, 15, 3
"""Of `flags/voc2012.flags`."""


def measured(devkit, images):
    """{work: seconds an image}, of one process where it is not the network's."""
    ids = (devkit / "ImageSets/Segmentation/train.txt").read_text().split()[:images]
    rows = [{"image/id": i, "image/encoded": (devkit / f"JPEGImages/{i}.jpg").read_bytes()}
            for i in ids]  # fmt: skip
    pictures = [encoding.rgb_pixels(row["image/encoded"]) for row in rows]
    preset, drfi = crf.PRESETS["deeplab"] | {"iterations": 10}, methods.build("drfi")

    def each(work, items):
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
        many = pathlib.Path(folder) / "devkit"
        memory.repeat_devkit(devkit, many, 20 * len(ids), len(ids))
        start = time.perf_counter()
        write_voc.run(config.WriteVoc(voc_root=str(many)), RunDir(pathlib.Path(folder) / "run"), 1)
        found["write_voc"] = (time.perf_counter() - start) / (20 * len(ids))
    settings = config.TrainSegmenter(backbone="vgg16", precision="auto", kernel_gradients="auto")
    dtype, _ = precision.choose(settings)
    way, _ = precision.choose_gradients(dataclasses.replace(settings, precision=dtype))
    batch, step = 4, training.Ours("segmenter", 4, SIZE, dtype, way)
    found["train step"] = step.seconds(3) / (3 * batch)
    pictures, model = step.batch["image"], step.model
    forward = tf.function(lambda: model.cells(model.frozen(pictures, training=False))["logits"])
    forward()
    found["forward"] = each(lambda _: forward().numpy(), range(3)) / batch
    return found | {"precision": dtype}


def work(images):
    """[(phase, images' train steps, images' forward passes, {one process's work: images})]."""
    rows = [("write_voc", 0, 0, {"write_voc": images}), ("write_saliency", 0, 0, {"DRFI": images})]
    for step in range(1, STEPS + 1):
        rows.append((f"train_classifier, step {step}", EPOCHS * images, 0, {}))
        rows.append((f"mine_regions, step {step}", 0, images, {}))
    for name in ("PSL", "PSL++"):
        rows.append((f"train_segmenter, {name}", EPOCHS * images, 0, {}))
        if name == "PSL":
            rows.append(("relabel", 0, images, {"CRF": images}))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("devkit", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=10, help="that are timed")
    parser.add_argument("--images_of_split", type=int, default=10582)
    parser.add_argument("--gpu_tflops", type=float, default=989, help="H100's, bfloat16, dense")
    parser.add_argument("--share", type=float, default=0.25, help="of it that is reached")
    parser.add_argument("--gpu_cores", type=int, default=16, help="beside each GPU")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rates = measured(arguments.devkit, arguments.images)
    said = ", ".join(f"{name} {s:.3f} s" for name, s in rates.items() if name != "precision")
    print(f"{cores} cores, TensorFlow {tf.__version__}, {time.strftime('%Y-%m-%d %H:%M')}, "
          f"{rates['precision']}. An image: {said}.\n")  # fmt: skip
    forward = sum(layers.gflop(*one) for one in layers.convolutions(
        SIZE, precision="float32", kernel_gradients="library"))  # fmt: skip
    print(f"{arguments.images_of_split} images; hours, of GPUs estimated: "
          f"{arguments.gpu_tflops:.0f} TFLOP/s by {arguments.share:.2f}, "
          f"{arguments.gpu_cores} cores a GPU.\n")  # fmt: skip
    print(f"| phase | {cores} cores | one GPU | eight GPUs |\n|---|---:|---:|---:|")
    total = [0, 0, 0]
    for name, steps, passes, alone in work(arguments.images_of_split):
        here = steps * rates["train step"] + passes * rates["forward"]
        gpu = steps * layers.step_gflop(SIZE) + passes * forward
        gpu /= 1000 * arguments.gpu_tflops * arguments.share
        single = sum(count * rates[one] for one, count in alone.items())
        hours = [here + single / cores, gpu + single / arguments.gpu_cores,
                 (gpu + single / arguments.gpu_cores) / 8]  # fmt: skip
        total = [a + b / 3600 for a, b in zip(total, hours, strict=True)]
        print(f"| {name} | {' | '.join(f'{h / 3600:.2f}' for h in hours)} |")
    print(f"| all | {' | '.join(f'{h:.2f}' for h in total)} |")


if __name__ == "__main__":
    main()
