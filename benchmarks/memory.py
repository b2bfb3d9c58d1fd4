"""Peak memory of every phase, at a number of images and at many times as many.

python -m benchmarks.memory --devkit=VOCdevkit/VOC2012 --images=1000 --times=20

A devkit's first images come again and again under new ids, so that both splits hold the same
pictures; --side makes them small, and so many of them feasible. Each phase runs in a process of
its own (`--workers=1`), with a tiny network: what grows with the split shows, what a network takes
does not. Prints MiB, and the ratio, which should stay below 1.05.
"""

import argparse
import contextlib
import dataclasses
import importlib
import itertools
import pathlib
import re
import sys
import tempfile
import time

from PIL import Image

from aepsl_tf import config
from aepsl_tf.classes import VOC
from aepsl_tf.data import runners
from aepsl_tf.run_dir import RunDir
from benchmarks import heading

COMMON = {
    "voc_root": "devkit", "images": "devkit/JPEGImages", "output": "predicted",
    "backbone": "vgg16_small", "weights": "none", "input": "warp", "input_size": 33,
    "fc6_dilation": 1, "epochs": 1, "global_batch": 10, "label_loss": "sigmoid",
    "method": "spectral_residual", "merge_steps": 1, "crf": False, "split": "train",
}  # fmt: skip
_FOLDER = {
    "voc_root": "", "images_dir": "devkit/JPEGImages", "masks_dir": "devkit/SegmentationClass",
    "classes_file": "devkit/classes.txt", "train_split": "folder", "val_split": "none",
}  # fmt: skip
_CACHED = {"freeze_through": "conv3", "cache_features": True}
PHASES = {
    "write_voc": ("data_prep.write_voc", config.WriteVoc, {}),
    "write_folder": ("data_prep.write_folder", config.WriteVoc, _FOLDER),
    "write_saliency": ("data_prep.write_saliency", config.WriteSaliency, {}),
    "train_classifier, crops": (
        "aepsl_tf.phases.train_classifier", config.TrainClassifier, {"input": "crop"}),
    "choose_threshold": (
        "aepsl_tf.phases.choose_threshold", config.ChooseThreshold, {"threshold": "auto"}),
    "mine_regions": ("aepsl_tf.phases.mine_regions", config.MineRegions, {}),
    "write_erased": ("data_prep.write_erased", config.WriteErased, {"step": 2}),
    "train_classifier, cached": (
        "aepsl_tf.phases.train_classifier", config.TrainClassifier, {"step": 2} | _CACHED),
    "mine_regions, cached": ("aepsl_tf.phases.mine_regions", config.MineRegions, {"step": 2}),
    "make_masks": ("aepsl_tf.phases.make_masks", config.MakeMasks, {}),
    "supervised_masks": (
        "aepsl_tf.phases.supervised_masks", config.SupervisedMasks, {}),
    "train_segmenter, warped": (
        "aepsl_tf.phases.train_segmenter", config.TrainSegmenter, {"name": "psl"}),
    "train_segmenter, cached": (
        "aepsl_tf.phases.train_segmenter", config.TrainSegmenter, {"name": "cached"} | _CACHED),
    "relabel": ("aepsl_tf.phases.relabel", config.Relabel, {}),
    "evaluate saliency": ("aepsl_tf.phases.evaluate", config.Evaluate, {"what": "saliency"}),
    "evaluate regions": ("aepsl_tf.phases.evaluate", config.Evaluate, {"what": "regions"}),
    "evaluate masks": ("aepsl_tf.phases.evaluate", config.Evaluate, {"what": "masks"}),
    "evaluate": ("aepsl_tf.phases.evaluate", config.Evaluate, {}),
    "evaluate, cached": ("aepsl_tf.phases.evaluate", config.Evaluate, {"model": "cached"}),
    "predict": ("aepsl_tf.phases.predict", config.Predict, {}),
    "report": ("aepsl_tf.phases.report", config.Report, {}),
}  # fmt: skip
"""Name → module, settings and their changes, each phase after those that it needs."""


def shrink_devkit(devkit, target, different, side):
    """The first `different` pictures and masks of a devkit in `target`, `side` pixels at most."""
    kinds = {"JPEGImages": ".jpg", "SegmentationClass": ".png"}
    for folder in kinds:
        (target / folder).mkdir(parents=True)
    for mask in sorted((devkit / "SegmentationClass").glob("*.png"))[:different]:
        for folder, suffix in kinds.items():
            with Image.open(devkit / folder / f"{mask.stem}{suffix}") as picture:
                size = [max(1, length * side // max(picture.size)) for length in picture.size]
                way = Image.Resampling.NEAREST if suffix == ".png" else Image.Resampling.BILINEAR
                picture.resize(size, way).save(target / folder / f"{mask.stem}{suffix}")


def repeat_devkit(devkit, target, images, different):
    """A devkit of `images` ids in `target`; its pictures are the `different` first of `devkit`."""
    devkit, lists = devkit.resolve(), target / "ImageSets" / "Segmentation"
    masks = sorted((devkit / "SegmentationClass").glob("*.png"))[:different]
    folders = {"JPEGImages": ".jpg", "SegmentationClass": ".png"}
    for folder in (target / name for name in folders):
        folder.mkdir(parents=True)
    lists.mkdir(parents=True)
    ids = [f"{i:06d}" for i in range(images)]
    for id_, mask in zip(ids, itertools.cycle(masks), strict=False):
        for folder, suffix in folders.items():
            (target / folder / f"{id_}{suffix}").symlink_to(
                devkit / folder / f"{mask.stem}{suffix}"
            )
    (lists / "train.txt").write_text("".join(f"{id_}\n" for id_ in ids))
    (target / "classes.txt").write_text("\n".join(VOC.names))


def run_alone(name, folder):
    """Runs one phase on the devkit and run in `folder`; returns (peak MiB, seconds)."""
    module, settings, changes = PHASES[name]
    fields = {field.name for field in dataclasses.fields(settings)}
    chosen = settings(**{k: v for k, v in (COMMON | changes).items() if k in fields})
    start = time.monotonic()
    with contextlib.chdir(folder), contextlib.redirect_stdout(sys.stderr):  # its own tables
        importlib.import_module(module).run(chosen, RunDir("run"), 1)
    # Not getrusage: its peak outlives exec, so it may be that of the process that started us.
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) / 1024
    return peak, time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devkit", type=pathlib.Path, required=True, help="with JPEGImages")
    parser.add_argument("--images", type=int, default=100, help="of the smaller split")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--side", type=int, default=0, help="pixels of a picture's; 0: as it is")
    parser.add_argument("--only", default="", help="phases whose names begin so")
    parser.add_argument("--folder", help="where the runs lie while this works")
    arguments = parser.parse_args()
    from benchmarks import memory  # a fresh process finds `run_alone` there, not in `__main__`

    counts = [arguments.images, arguments.images * arguments.times]
    print(heading(arguments))
    print(f"| phase | MiB, {counts[0]} images | {counts[1]} | seconds | ratio |\n"
          "|---|---:|---:|---:|---:|")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        folders = [pathlib.Path(folder) / str(count) for count in counts]
        devkit = arguments.devkit
        if arguments.side:
            devkit = pathlib.Path(folder) / "small"
            shrink_devkit(arguments.devkit, devkit, arguments.images, arguments.side)
        for count, place in zip(counts, folders, strict=True):
            repeat_devkit(devkit, place / "devkit", count, arguments.images)
        for name in (name for name in PHASES if name.startswith(arguments.only)):
            (few, _), (many, seconds) = (
                runners.in_fresh_process(memory.run_alone, name, place) for place in folders
            )
            print(f"| {name} | {few:.0f} | {many:.0f} | {seconds:.0f} | {many / few:.3f} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
