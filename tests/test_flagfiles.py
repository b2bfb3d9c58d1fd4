"""The command that each flagfile prints runs as printed, on a tiny devkit of VOC's own layout.

It runs in a folder where everything has the name that the command gives it. Only sizes are
overridden, by flags after it, the lists that ship, and weights that it would download.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import jpeg, write_mask

from aepsl_tf.classes import VOC
from aepsl_tf.run_dir import RunDir

ROOT = pathlib.Path(__file__).parents[1]
SIZES = ("--input_size=33", "--global_batch=2", "--epochs=1", "--segmenter_epochs=1",
         "--max_steps=2", "--merge_steps=2", "--crf_iterations=1", "--panel_images=1",
         "--workers=1", "--fc_channels=0", "--lists_dir=")  # fmt: skip
DOWNLOADED = ("--weights=vgg16_notop.weights.h5",)
DRAWN = ("--demo_train=8", "--demo_val=2")
TRAIN, AUG, VAL = 3, 5, 2  # pictures: of train, only of train_aug, of val


def printed(text):
    """The commands in a text, without the `#` and the continuations of its lines."""
    text = re.sub(r"\\\n[# ]*", "", text)
    return re.findall(r"^(?:# )?((?:\S*/)?python -m .*)$", text, re.MULTILINE)


def commands(flagfile):
    return printed((ROOT / "flags" / flagfile).read_text())


def draw_devkit(root):
    """As `download_voc` leaves a devkit: XML for every picture, masks of train and val, and of all
    of these and the others in SegmentationClassAug.
    """
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = [f"2007_{i:06d}" for i in range(TRAIN + AUG + VAL)]
    train, aug, val = ids[:TRAIN], ids[: TRAIN + AUG], ids[TRAIN + AUG :]
    lists = {"train": train, "val": val, "train_aug": aug}
    lists |= {"subset_train": train, "animals_train": aug, "subset_val": val, "animals_val": val}
    for name, listed in lists.items():
        path = root / f"ImageSets/Segmentation/{name}.txt"
        path.write_text("".join(f"{id_}\n" for id_ in listed))
    for number, id_ in enumerate(ids):
        label = (8, 12)[number % 2]  # cat, dog
        mask = np.zeros([60, 72], np.uint8)
        mask[14:44, 20:56] = 255  # VOC's cream rim
        mask[16:42, 22:54] = label
        pixels = rng.integers(90, 130, [60, 72, 3])
        pixels[mask > 0] = (190, 80, 60) if label == 8 else (60, 80, 190)
        (root / f"JPEGImages/{id_}.jpg").write_bytes(jpeg(pixels.astype(np.uint8)))
        (root / f"Annotations/{id_}.xml").write_text(
            f"<annotation><object><name>{VOC.names[label - 1]}</name></object></annotation>"
        )
        write_mask(root, id_, mask)
    finer = root / "SegmentationClass"
    shutil.copytree(finer, root / "SegmentationClassAug")
    for id_ in aug[TRAIN:]:
        (finer / f"{id_}.png").unlink()


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """Everything that a printed command may name, but its run."""
    import keras

    folder = tmp_path_factory.mktemp("named")
    draw_devkit(folder / "data/VOCdevkit/VOC2012")
    (folder / "VOC2012").symlink_to("data/VOCdevkit/VOC2012")
    (folder / "flags").symlink_to(ROOT / "flags")
    for photos in ("photos", "new_photos"):
        (folder / photos).symlink_to("VOC2012/JPEGImages")
    lines = [f"2007_{i:06d}.jpg,{('cat', 'dog', '')[i % 3]}" for i in range(TRAIN + AUG + VAL)]
    (folder / "tags.csv").write_text("\n".join(["image,labels", *lines]) + "\n")

    keras.utils.set_random_seed(0)
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    vgg16.save_weights(folder / "vgg16_notop.weights.h5")
    return folder


class Command:
    """A printed command, running in a folder; `after`: those printed below it."""

    def __init__(self, folder, command, *flags, after=()):
        self.folder, self.after = folder, after
        program, *arguments = shlex.split(command)
        assert pathlib.PurePath(program).name == "python"
        self.log = folder / "log.txt"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, *arguments, *flags], cwd=folder, stdout=log,
                stderr=subprocess.STDOUT, env=dict(os.environ, PYTHONPATH=str(ROOT)),
            )  # fmt: skip
        name = re.search(r"--run_dir=(\S+)", command)
        self.run_dir = RunDir(folder / name[1]) if name else None

    def end(self):
        """Its log, when it has ended well."""
        code, log = self.process.wait(timeout=1200), self.log.read_text()
        assert code == 0, log[-3000:]
        return log


def start_all(named, folder, *flags):
    """Flagfile → its pipeline `Command`, running; all at once."""
    running = {}
    for path in sorted((ROOT / "flags").glob("*.flags")):
        here = folder / path.name
        here.mkdir()
        for asset in named.iterdir():
            (here / asset.name).symlink_to(asset)
        every = commands(path.name)
        place = next(i for i, command in enumerate(every) if "aepsl_tf.pipeline" in command)
        for command in every[:place]:
            Command(here, command, *DRAWN).end()
        own = DOWNLOADED if "--weights=imagenet" in path.read_text() else ()
        running[path.name] = Command(
            here, every[place], *own, *SIZES, *flags, after=every[place + 1 :]
        )
    return running


@pytest.fixture(scope="module")
def running(named, tmp_path_factory):
    """All of them, with one segmenter each."""
    started = start_all(named, tmp_path_factory.mktemp("printed"), "--segmenters=psl")
    yield started
    for command in started.values():
        command.process.kill()
        command.process.wait()


def whole(run_dir, segmenters, truth=True):
    """Checks that a run is whole, evaluated where there is truth. Returns its manifest."""
    manifest = run_dir.manifest()
    assert {"mine_regions/step_1", "mine_regions/step_2", "report"} <= manifest.keys()
    for segmenter in segmenters if truth else ():
        results = json.loads(run_dir.evaluation(segmenter).read_text())
        assert 0 <= results[segmenter]["miou"] <= 1
    assert (run_dir.export(segmenters[-1]) / "1/saved_model.pb").exists()
    assert list(run_dir.drawn.glob("*.png"))
    return manifest


def test_every_flagfile_prints_its_command():
    for path in (ROOT / "flags").glob("*.flags"):
        assert any(f"--flagfile=flags/{path.name}" in line for line in commands(path.name))


def test_the_readme_prints_the_same_commands():
    def bare(command):
        return re.sub(r"^\S*python|--run_dir=\S+", "", command).split()

    known = [bare(c) for path in (ROOT / "flags").glob("*.flags") for c in commands(path.name)]
    shown = [c for c in printed((ROOT / "README.md").read_text()) if "--flagfile=flags/" in c]
    shown = [c for c in shown if "aepsl_tf.experiments" not in c]  # test_experiments has these
    assert shown
    for command in shown:
        assert bare(command) in known, command


def test_demo(running):
    command = running["demo.flags"]
    assert "train: tags from masks; ground truth: 8 masks" in command.end()
    whole(command.run_dir, ["psl"])


def test_voc2012(running):
    """Crops, VGG-16's shape, Caffe's SGD, DRFI; VOC's own masks for some training images only."""
    command = running["voc2012.flags"]
    log = command.end()
    assert "train_aug: tags from xml; ground truth: 8 masks in SegmentationClassAug" in log
    assert "val: tags from xml; ground truth: 2 masks" in log
    manifest = whole(command.run_dir, ["psl"])
    assert {f"write_voc/{s}/ground_truth" for s in ("train_aug", "val")} <= manifest.keys()
    trained = manifest["train_classifier/step_1"]["config"]
    assert trained["backbone"] == "vgg16" and trained["input"] == "crop"
    assert len(trained["weights"]["sha256"]) == 64
    drfi = manifest["write_saliency/train_aug"]["config"]["drfi_model"]
    assert drfi["path"] == "" and len(drfi["sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "truth"), [("subset", "3 masks"), ("animals", "8 masks in SegmentationClassAug")]
)
def test_a_part_of_voc2012(running, name, truth):
    """A frozen VGG-16, cached features; masks for all."""
    command = running[f"voc2012_{name}.flags"]
    assert f"{name}_train: tags from masks; ground truth: {truth}" in command.end()
    manifest = whole(command.run_dir, ["psl"])
    trained = manifest["train_classifier/step_1"]["config"]
    assert (trained["freeze_through"], trained["cache_features"]) == ("pool5a", True)


def test_own_pictures(running):
    """No mask at all; every third picture without a tag."""
    command = running["own_pictures.flags"]
    log = command.end()
    assert "write_voc/train: finished before, skipped" in log  # by the first of its commands
    manifest = whole(command.run_dir, ["psl"], truth=False)
    assert manifest["write_voc/train"]["facts"] == {"tags_from": "csv", "ground_truth": False}
    assert not any("ground_truth" in key or key.startswith("evaluate") for key in manifest)
    (predict,) = command.after
    Command(command.folder, predict, "--model=psl", "--crf_iterations=1").end()
    assert len(list((command.folder / "masks").glob("*_overlay.png"))) == TRAIN + AUG + VAL


def test_the_lists_that_ship():
    """Each of them, and of each training list a part to choose with and the rest."""
    lists = {path.stem: path.read_text().split() for path in (ROOT / "flags/lists").glob("*.txt")}
    sizes = {"subset_train": 528, "subset_val": 256, "animals_train": 736, "animals_val": 193}
    assert sizes.items() <= {name: len(ids) for name, ids in lists.items()}.items()
    for name, ids in lists.items():
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"20\d\d_\d{6}", id_) for id_ in ids), name
    for name in ("subset", "animals"):
        train, val, fit, choose = (
            lists[f"{name}_{split}"] for split in ("train", "val", "fit", "choose")
        )  # fmt: skip
        assert sorted(fit + choose) == sorted(train) and not set(train) & set(val)
        assert len(choose) > len(train) / 5


@pytest.mark.long
def test_all_segmenters(named, tmp_path):
    """Nothing is left out but sizes."""
    for command in start_all(named, tmp_path).values():
        command.end()
        whole(command.run_dir, ["no_psl", "psl", "psl_plus_plus"])
