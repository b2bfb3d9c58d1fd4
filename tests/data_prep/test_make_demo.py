"""The demo set: repeatable, honest masks and tags, evidence in levels, whole or not there."""

import collections
import csv
import json
import types

import cv2
import numpy as np
import pytest
from PIL import Image

from aepsl_tf.classes import ClassSet
from aepsl_tf.errors import InputError
from data_prep import make_demo

SCENES = 36


def _settings(root, **changes):
    values = {"demo_root": str(root), "demo_train": 6, "demo_val": 2, "seed": 5} | changes
    return types.SimpleNamespace(**values)


def _files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def scenes():
    """(image, mask, parts, background name) of the first scenes."""
    return [make_demo._draw(0, "train", index) for index in range(1, SCENES + 1)]


@pytest.fixture(scope="module")
def devkit(tmp_path_factory):
    return make_demo.run(_settings(tmp_path_factory.mktemp("demo") / "devkit"))


def test_same_seed_same_bytes_however_many_are_drawn(devkit, tmp_path):
    again = _files(make_demo.run(_settings(tmp_path / "fewer", demo_train=3)))
    first = _files(devkit)
    pictures = [name for name in again if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 2 * (3 + 2)
    assert all(first[name] == again[name] for name in pictures)


@pytest.mark.parametrize("other", [(1, "train", 1), (0, "val", 1), (0, "train", 2)])
def test_seed_split_and_index_each_change_the_scene(scenes, other):
    image, _, _ = make_demo.draw_scene(*other)
    assert image.shape != scenes[0][0].shape or (image != scenes[0][0]).any()


def test_draw_scene_returns_what_it_says(scenes):
    image, mask, ids = make_demo.draw_scene(0, "train", 1)
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == (*mask.shape, 3)
    assert ids == sorted(set(np.unique(mask)) - {0})
    np.testing.assert_array_equal(image, scenes[0][0])
    np.testing.assert_array_equal(make_demo.draw_parts(0, "train", 1), scenes[0][2])
    assert make_demo.scene_name(0, "train", 1) == scenes[0][3]


def test_masks_are_palette_pngs_of_their_images_size_and_tags_name_their_ids(devkit):
    with open(devkit / "image_labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for row in rows:
        mask = Image.open(devkit / f"SegmentationClass/{row['image']}.png")
        assert mask.mode == "P"
        assert mask.getpalette()[:21] == make_demo.CLASSES.palette()[:7].ravel().tolist()
        assert mask.size == Image.open(devkit / f"JPEGImages/{row['image']}.jpg").size
        ids = sorted(set(np.unique(np.array(mask))) - {0})
        assert [make_demo.CLASSES.id_of(name) for name in row["labels"].split()] == ids


def test_lists_and_classes(devkit):
    lists = devkit / "ImageSets/Segmentation"
    assert (lists / "train.txt").read_text().split()[0] == "demo_train_0001"
    assert (lists / "val.txt").read_text() == "demo_val_0001\ndemo_val_0002\n"
    assert ClassSet.load(devkit / "classes.json") == make_demo.CLASSES


def test_every_class_appears_evenly(scenes):
    counts = collections.Counter(i for _, mask, _, _ in scenes for i in np.unique(mask) if i)
    assert set(counts) == set(range(1, len(make_demo.CLASSES) + 1))
    assert min(counts.values()) >= SCENES // len(make_demo.CLASSES)


def test_about_a_quarter_holds_two_classes(scenes):
    ids = [len(np.unique(mask)) - 1 for _, mask, _, _ in scenes]
    assert set(ids) == {1, 2}
    assert 0.1 <= np.mean(np.array(ids) == 2) <= 0.45


def test_objects_cover_a_moderate_share_of_the_image(scenes):
    shares = [np.mean(mask == i) for _, mask, _, _ in scenes for i in np.unique(mask) if i]
    assert min(shares) > 0.07
    assert max(shares) < 0.4


def test_parts_cover_the_animals_and_the_head_is_much_the_smallest(scenes):
    for _, mask, parts, _ in scenes:
        np.testing.assert_array_equal(parts > 0, mask > 0)
        assert set(np.unique(parts)) == {0, make_demo.HEAD, make_demo.FRONT, make_demo.HIND}
        assert (parts == make_demo.HEAD).sum() < 0.5 * (parts > make_demo.HEAD).sum()


def test_color_fades_from_head_to_hind(scenes):
    """Mean HSV saturation, a stand-in for the evidence, falls along the three levels."""
    saturation = collections.defaultdict(list)
    for image, _, parts, _ in scenes:
        values = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1]
        for part in (make_demo.HEAD, make_demo.FRONT, make_demo.HIND):
            saturation[part].append(values[parts == part].mean())
    head, front, hind = (np.mean(saturation[part]) for part in sorted(saturation))
    assert head > 1.5 * front
    assert front > 1.2 * hind


def test_backgrounds_go_mildly_with_the_class(scenes):
    alone = [
        (np.unique(mask)[1], name)
        for _, mask, _, name in scenes
        if mask.max() == mask[mask > 0].min()
    ]
    favourites = [make_demo.ANIMALS[i - 1].scene == name for i, name in alone]
    assert 0.3 < np.mean(favourites) < 0.85
    assert len({name for _, name in alone}) == len(make_demo.SCENES)


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
        patch.setattr(make_demo, "draw_scene", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            make_demo.run(_settings(root))
    assert not root.exists()
    (tmp_path / "devkit.partial" / "stale.txt").write_text("")
    make_demo.run(_settings(root, demo_train=1, demo_val=1))
    assert not (root / "stale.txt").exists()
    assert not (tmp_path / "devkit.partial").exists()
