"""What a second process brings: CRF, DRFI, an ONNX saliency network and write_voc.

python -m benchmarks.processes VOCdevkit/VOC2012 --onnx_model=u2netp.onnx

The work of the first images of the devkit's `train` split, by --workers processes and by one, by
turns, each with one OpenCV thread; the start of the pool is counted, which takes about a second:
take images enough. The CRF gets drawn cells of 21 classes of which three are likely. Run it on a
quiet machine.
"""

import argparse
import functools
import itertools
import pathlib
import statistics
import tempfile
import time

import numpy as np

from aepsl_tf import config
from aepsl_tf.data import encoding, runners
from aepsl_tf.inference import cells, crf
from aepsl_tf.run_dir import RunDir
from benchmarks import heading, median, memory
from data_prep import write_saliency, write_voc
from data_prep.saliency import methods


def drawn_cells(picture, seed):
    """`Cells` of a picture in which three of 21 classes show."""
    height, width = picture.shape[:2]
    rng = np.random.default_rng(seed)
    size = [(side + 6) // 8 + 1 for side in (height, width)]
    logits = rng.normal(size=[*size, 21]).astype(np.float32)
    classes = [0, *rng.choice(np.arange(1, 21), 2, replace=False)]
    for row, class_id in zip(np.array_split(np.arange(size[0]), 3), classes, strict=True):
        logits[row, :, class_id] += 4
    weights = np.zeros(21, np.float32)
    weights[classes] = 1
    rows, columns = ((np.arange(side) / 8).astype(np.float32) for side in (height, width))
    return cells.Cells(picture, weights, (cells.Seen(logits, rows, columns),))


def tasks(arguments, folder):
    """Name → `work(workers)`; what is made lies in `folder`."""
    devkit = pathlib.Path(arguments.devkit)
    listed = (devkit / "ImageSets/Segmentation/train.txt").read_text().split()
    ids = listed[: max(arguments.images, arguments.onnx_images)]
    rows = [{"image/id": id_, "image/encoded": (devkit / f"JPEGImages/{id_}.jpg").read_bytes()}
            for id_ in ids]  # fmt: skip
    some = rows[: arguments.images]
    pictures = [encoding.rgb_pixels(row["image/encoded"]) for row in some]

    def maps(rows, method, **model):
        return mapped(
            functools.partial(write_saliency.row_of, methods.build(method, **model)), rows
        )

    def mapped(function, items):
        return lambda workers: sum(1 for _ in runners.ordered_map(function, items, workers))

    refine = functools.partial(cells.crf_mask, crf.PRESETS["deeplab"] | {"iterations": 10})
    made = {
        "CRF": mapped(refine, [drawn_cells(p, n) for n, p in enumerate(pictures)]),
        "DRFI": maps(some, "drfi"),
    }
    if arguments.onnx_model:
        few = rows[: arguments.onnx_images]
        made["ONNX saliency"] = maps(few, "onnx", onnx_model=arguments.onnx_model)

    many = folder / "devkit"
    memory.repeat_devkit(devkit, many, arguments.write_images, arguments.images)
    runs = map(str, itertools.count())

    def write(workers):
        write_voc.run(config.WriteVoc(voc_root=str(many)), RunDir(folder / next(runs)), workers)

    return made | {f"write_voc, {arguments.write_images} images": write}


def seconds(work, workers):
    start = time.perf_counter()
    work(workers)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("devkit")
    parser.add_argument("--images", type=int, default=400, help="for the CRF and DRFI")
    parser.add_argument("--onnx_images", type=int, default=100)
    parser.add_argument("--write_images", type=int, default=5000, help="the same ones again")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onnx_model", default="")
    arguments = parser.parse_args()
    runners.single_thread()  # as in a worker
    print(heading(arguments))
    print(f"| work | one process, s | {arguments.workers} processes, s | times as fast |\n"
          "|---|---:|---:|---:|")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, work in tasks(arguments, pathlib.Path(folder)).items():
            pairs = [(seconds(work, 1), seconds(work, arguments.workers))
                     for _ in range(arguments.rounds)]  # fmt: skip
            one, more = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = median([a / b for a, b in pairs])
            print(f"| {name} | {one:.1f} | {more:.1f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
