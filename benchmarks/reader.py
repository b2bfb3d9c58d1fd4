"""How fast the phases read a network over a split, against the network alone and an older checkout.

python -m benchmarks.reader VOCdevkit/VOC2012 --images=200 --runs=3 --against=../older_checkout

Times mining, evaluation and prediction (both without the CRF) of the first images of a devkit's
validation split, and the network alone on inputs that lie ready, in batches of 8 of one size and
one by one. The tasks take turns in one process; with --against the same work by the other checkout,
in a process of its own, comes right after each. Nothing is prohibited (--p=0), so every class is
work. A phase is timed on two images as well, which is its start: loading the model, tracing. Shows
medians, and least and most of the last share; the times an image and shares of the network's rate
are without the start, the ratio of the checkouts with it. Run it on a quiet machine.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
PHASES = ("mine_regions", "evaluate", "predict")
ALONE = ("network in batches of 8", "network one by one")
FEW = 2
"""Images whose time is a phase's start."""
_ANSWER = "ANSWER "


class Worker:
    """One checkout's process: `ask(task)` → seconds and what was made."""

    def __init__(self, tree, folder, arguments):
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), *arguments]
        environment = os.environ | {"PYTHONPATH": str(tree), "TF_CPP_MIN_LOG_LEVEL": "2"}
        self.log = open(folder / "log.txt", "w")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--work_in", str(folder)], cwd=tree, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
        )  # fmt: skip

    def ask(self, task):
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise SystemExit(f"the worker failed: {pathlib.Path(self.log.name).read_text()[-3000:]}")

    def end(self):
        self.process.communicate()
        self.log.close()


def answer(arguments):
    """A worker's life: prepares a run below `work_in`, then does what each line names."""
    from aepsl_tf import config
    from aepsl_tf.phases import (
        evaluate,
        mine_regions,
        predict,
        supervised_masks,
        train_classifier,
        train_segmenter,
    )
    from aepsl_tf.run_dir import RunDir
    from data_prep import write_voc

    folder, devkit = pathlib.Path(arguments.work_in), pathlib.Path(arguments.devkit)
    ids = (devkit / "ImageSets/Segmentation/val.txt").read_text().split()[: arguments.images]
    common = {
        "voc_root": str(devkit), "tags_from": "masks", "backbone": arguments.backbone,
        "weights": arguments.weights, "input": arguments.input, "input_size": arguments.input_size,
        "label_loss": "sigmoid", "epochs": 1, "global_batch": 2, "train_split": "few", "p": 0.0,
        "crf": False, "learning_rate": 1e-6, "precision": arguments.precision,
    }  # fmt: skip

    def read(cls, **changes):
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in common.items() if k in names} | changes)

    run_dir = RunDir(folder / "run")
    for split, some in (("few", ids[:FEW]), ("many", ids)):
        (folder / split).write_text("\n".join(some))
        settings = read(config.WriteVoc, split=split, ids_file=str(folder / split))
        write_voc.run(settings, run_dir, 1)
        (folder / f"pictures_{split}").mkdir()
        for id_ in some:
            (folder / f"pictures_{split}/{id_}.jpg").symlink_to(
                (devkit / f"JPEGImages/{id_}.jpg").resolve()
            )
    train_classifier.run(read(config.TrainClassifier), run_dir)
    supervised_masks.run(read(config.SupervisedMasks), run_dir)
    train_segmenter.run(read(config.TrainSegmenter, masks="supervised"), run_dir)
    masks = folder / "masks"
    phases = {
        "mine_regions": lambda split: (
            mine_regions, read(config.MineRegions, train_split=split), run_dir.regions(1)),
        "evaluate": lambda split: (
            evaluate, read(config.Evaluate, split=split), run_dir.evaluation("psl")),
        "predict": lambda split: (
            predict, read(config.Predict, images=str(folder / f"pictures_{split}"),
                          output=str(masks)), masks),
    }  # fmt: skip
    alone = None
    for line in sys.stdin:
        task, _, split = line.strip().partition(" of ")
        if task in phases:
            phase, settings, made = phases[task](split)
            shutil.rmtree(made, ignore_errors=True)
            made.unlink(missing_ok=True)
            start = time.monotonic()
            phase.run(settings, run_dir, 1)
        else:
            alone = alone or network(run_dir, ids, devkit)
            start = time.monotonic()
            alone(8 if line.strip() == ALONE[0] else 1)
        print(f"\n{_ANSWER}{json.dumps(time.monotonic() - start)}", flush=True)


def network(run_dir, ids, devkit):
    """`forward(batch)`: the segmenter on all pictures' inputs, made beforehand."""
    import tensorflow as tf

    from aepsl_tf.data import geometry, transforms
    from aepsl_tf.models import model_dir

    model, groups = model_dir.load(run_dir.model("psl")), {}
    for id_ in ids:
        image = transforms.decode_image((devkit / f"JPEGImages/{id_}.jpg").read_bytes())
        inputs = geometry.to_network(image[None], model.config, 4_000_000)
        groups.setdefault(tuple(inputs.shape), []).append(inputs)
    stacked = [tf.concat(group, 0) for group in groups.values()]

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
    def cells(inputs):
        with model.fixed():
            return model.cells(model.frozen(inputs, training=False))

    def forward(batch):
        for inputs in stacked:
            for start in range(0, len(inputs), batch):
                cells(inputs[start : start + batch])["logits"].numpy()

    return forward


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("devkit")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--uncounted", type=int, default=1, help="runs before them")
    parser.add_argument("--against", help="an older checkout")
    parser.add_argument("--backbone", default="vgg16")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--input", default="crop")
    parser.add_argument("--input_size", type=int, default=321)
    parser.add_argument("--precision", default="auto", help="of all")
    parser.add_argument("--work_in", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work_in:
        answer(arguments)
        return
    from benchmarks import heading, settled  # an older checkout's worker finds none there

    print(heading(arguments))
    arguments.precision = settled(arguments.precision, arguments.backbone)
    passed = [str(pathlib.Path(arguments.devkit).resolve())]
    for name in ("images", "backbone", "weights", "input", "input_size", "precision"):
        passed.append(f"--{name}={getattr(arguments, name)}")
    trees = {"here": ROOT}
    if arguments.against:
        trees["there"] = pathlib.Path(arguments.against).resolve()
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        workers = {}
        for name, tree in trees.items():
            (pathlib.Path(folder) / name).mkdir()
            workers[name] = Worker(tree, pathlib.Path(folder) / name, passed)
        for run in range(-arguments.uncounted, arguments.runs):
            for task in (*ALONE, *(f"{p} of {split}" for p in PHASES for split in ("few", "many"))):
                for name, worker in workers.items():
                    if name == "here" or task not in ALONE:
                        taken = worker.ask(task)
                        if run >= 0:
                            seconds.setdefault((task, name), []).append(taken)
        for worker in workers.values():
            worker.end()
    show(arguments.images, seconds)


def show(images, seconds):
    """Prints the table of {(task, checkout): [seconds of each run]}."""
    from benchmarks import median

    runs, mid = {key: np.array(values) for key, values in seconds.items()}, np.median
    eight, single = (runs[task, "here"] / images for task in ALONE)
    print("| | start, s | s an image | older | times as fast | of the network one by one "
          "| in batches of 8 |\n|---|---:|---:|---:|---:|---:|---:|")  # fmt: skip

    def row(name, start, each, older):
        print(f"| {name} | {start} | {mid(each):.3f} | {older} | {mid(single / each):.3f} "
              f"| {median(eight / each, 3)} |")  # fmt: skip

    for task, each in zip(ALONE, (eight, single), strict=True):
        row(task, "", each, " | ")
    for phase in PHASES:
        start, whole = (runs[f"{phase} of {split}", "here"] for split in ("few", "many"))
        there = runs.get((f"{phase} of many", "there"))
        older = " | " if there is None else f"{mid(there) / images:.3f} | {mid(there / whole):.2f}"
        row(phase, f"{mid(start):.1f}", (whole - start) / (images - FEW), older)


if __name__ == "__main__":
    main()
