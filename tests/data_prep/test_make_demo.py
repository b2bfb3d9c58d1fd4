"""The demo set: repeatable, its masks and tags honest, whole or not there."""

import csv
import json
import types

import numpy as np
import pytest
from conftest import opened

from aepsl_tf.classes import ClassSet
from aepsl_tf.errors import InputError
from data_prep import make_demo
from data_prep.demo import devkit as writer
from data_prep.demo.animals import CLASSES


def _settings(root, **changes):
    values = {"demo_root": str(root), "demo_train": 6, "demo_val": 2, "seed": 5} | changes
    return types.SimpleNamespace(**values)


def _files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    return make_demo.run(_settings(tmp_path_factory.mktemp("demo") / "devkit"))


def test_same_seed_same_bytes_however_many_are_drawn(devkit, tmp_path):
    again = _files(make_demo.run(_settings(tmp_path / "fewer", demo_train=3)))
    first = _files(devkit)
    pictures = [name for name in again if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 2 * (3 + 2)
    assert all(first[name] == again[name] for name in pictures)


def test_masks_are_palette_pngs_of_their_images_size_and_tags_name_their_ids(devkit):
    with open(devkit / "image_labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        mask = opened(devkit / f"SegmentationClass/{row['image']}.png")
        assert mask.mode == "P"
        assert mask.getpalette()[:21] == CLASSES.palette()[:7].ravel().tolist()
        assert mask.size == opened(devkit / f"JPEGImages/{row['image']}.jpg").size
        ids = sorted(set(np.unique(np.array(mask))) - {0})
        assert [CLASSES.names.index(name) + 1 for name in row["labels"].split()] == ids


def test_lists_and_classes(devkit):
    lists = devkit / "ImageSets/Segmentation"
    assert (lists / "train.txt").read_text().split()[0] == "demo_train_0001"
    assert (lists / "val.txt").read_text() == "demo_val_0001\ndemo_val_0002\n"
    assert ClassSet.load(devkit / "classes.json") == CLASSES


def test_a_finished_set_is_left_alone(devkit):
    before = {p: p.stat().st_mtime_ns for p in devkit.rglob("*")}
    assert make_demo.run(_settings(devkit)) == devkit
    assert before == {p: p.stat().st_mtime_ns for p in devkit.rglob("*")}


@pytest.mark.parametrize("name", ["demo_train", "demo_val", "seed"])
def test_other_settings_are_refused(devkit, name):
    with pytest.raises(InputError, match=rf"{name} = \d+, now {name} = 9; remove .*devkit"):
        make_demo.run(_settings(devkit, **{name: 9}))


def test_drawings_of_another_version_are_refused(devkit, tmp_path):
    recipe = json.loads((devkit / "demo.json").read_text()) | {"version": 0}
    (tmp_path / "demo.json").write_text(json.dumps(recipe))
    with pytest.raises(InputError, match="version = 0"):
        make_demo.run(_settings(tmp_path))


def test_a_folder_that_is_no_demo_set_is_refused_and_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="is no demo set"):
        make_demo.run(_settings(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_root_must_be_named():
    with pytest.raises(InputError, match="demo_root"):
        make_demo.run(_settings(""))


def test_an_interrupted_run_leaves_no_set_and_the_next_one_starts_over(tmp_path, monkeypatch):
    root = tmp_path / "devkit"
    with monkeypatch.context() as patch:
        patch.setattr(writer, "draw_scene", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_demo.run(_settings(root))
    assert not root.exists()
    (tmp_path / "devkit.partial" / "stale.txt").write_text("")
    make_demo.run(_settings(root, demo_train=1, demo_val=1))
    assert not (root / "stale.txt").exists()
    assert not (tmp_path / "devkit.partial").exists()
