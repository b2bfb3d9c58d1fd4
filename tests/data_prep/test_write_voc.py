"""A devkit becomes images with the right tags and, apart from them, ground truth."""

import json

import numpy as np
import pytest
from conftest import jpeg, reader, write_mask
from PIL import Image

from aepsl_tf import config
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.run_dir import RunDir
from data_prep import write_voc

TAGS = {"a": [1], "b": [2], "c": [1, 2], "d": [2]}


@pytest.fixture
def write(small_devkit, tmp_path):
    """`write(**settings)` → (image rows by id, RunDir)."""

    def write(**changes):
        run_dir = RunDir(tmp_path / "run")
        settings = reader(voc_root=str(small_devkit), shards=2)(config.WriteVoc, **changes)
        write_voc.run(settings, run_dir, workers=1)
        rows = records.Family(run_dir.family(settings.split, "images")).read()
        return {row["image/id"]: row for row in rows}, run_dir

    return write


def _tags(rows):
    return {id_: row["image/labels"] for id_, row in rows.items()}


def _annotate(root, id_, names):
    objects = "".join(f"<object><name>{n}</name></object>" for n in names)
    (root / "Annotations").mkdir(exist_ok=True)
    (root / f"Annotations/{id_}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_tags_from_masks(write, small_devkit):
    rows, run_dir = write()
    assert _tags(rows) == TAGS
    family = records.Family(run_dir.family("train", "images"))
    assert family.facts["tags_from"] == "masks"
    assert family.counts == [2, 2]
    for id_, row in rows.items():
        assert row["image/encoded"] == (small_devkit / f"JPEGImages/{id_}.jpg").read_bytes()
        assert (row["image/height"], row["image/width"]) == (18, 26)
        assert row["image/converted_from"] == ""


def test_mean_pixel_is_over_all_pixels(write, small_devkit):
    (small_devkit / "JPEGImages/a.jpg").write_bytes(jpeg(np.full([2, 3, 3], 255, np.uint8)))
    write_mask(small_devkit, "a", np.ones([2, 3], np.uint8))
    _, run_dir = write()
    pixels = [
        np.array(Image.open(small_devkit / f"JPEGImages/{i}.jpg"), float).reshape(-1, 3)
        for i in TAGS
    ]
    expected = np.concatenate(pixels).mean(0)
    found = records.Family(run_dir.family("train", "images")).facts["mean_pixel"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_ground_truth_is_the_masks(write, small_devkit):
    _, run_dir = write()
    rows = list(records.Family(run_dir.ground_truth("train", "evaluate")).read())
    assert [row["image/id"] for row in rows] == list(TAGS)
    for row in rows:
        expected = np.array(Image.open(small_devkit / f"SegmentationClass/{row['image/id']}.png"))
        np.testing.assert_array_equal(encoding.read_grey_png(row["mask/png"]), expected)


@pytest.mark.parametrize("separator", [" ", ";", " ; "])
def test_tags_from_csv(write, tmp_path, separator):
    file = tmp_path / "labels.csv"
    names = {"a": "dog", "b": "cat", "c": f"dog{separator}cat", "d": "dog", "unused": "zebra"}
    file.write_text("image,labels\n" + "".join(f"{k},{v}\n" for k, v in names.items()))
    rows, run_dir = write(labels_csv=str(file))  # auto: the csv wins over the masks
    assert _tags(rows) == {"a": [2], "b": [1], "c": [1, 2], "d": [2]}
    assert records.Family(run_dir.family("train", "images")).facts["tags_from"] == "csv"


def test_names_with_spaces_need_semicolons(write, tmp_path):
    classes = [{"name": n, "color": [9, 9, 9], "indoor": False} for n in ("polar bear", "dog")]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    file = tmp_path / "labels.csv"
    file.write_text("image,labels\na,polar bear\nb,dog;polar bear\nc,dog\nd,\n")
    rows, run_dir = write(labels_csv=str(file), classes_file=str(tmp_path / "classes.json"))
    assert _tags(rows) == {"a": [1], "b": [1, 2], "c": [2], "d": []}
    assert run_dir.classes().names == ("polar bear", "dog")


def test_tags_from_xml(write, small_devkit):
    for id_, names in {"a": ["dog", "dog"], "b": ["dog", "cat"], "c": ["cat"], "d": []}.items():
        _annotate(small_devkit, id_, names)
    rows, _ = write(tags_from="xml")
    assert _tags(rows) == {"a": [2], "b": [1, 2], "c": [1], "d": []}


def test_auto_takes_xml_where_there_are_no_masks(write, small_devkit):
    for id_ in TAGS:
        (small_devkit / f"SegmentationClass/{id_}.png").unlink()
        _annotate(small_devkit, id_, ["cat"])
    rows, run_dir = write()
    assert _tags(rows) == {id_: [1] for id_ in TAGS}
    assert run_dir.entry("write_voc/train/ground_truth") is None


def test_without_tags(write):
    rows, _ = write(tags_from="none")
    assert _tags(rows) == {id_: [] for id_ in TAGS}


def test_ids_file(write, tmp_path):
    (tmp_path / "ids.txt").write_text("c\na\n")
    rows, run_dir = write(ids_file=str(tmp_path / "ids.txt"), shards=9)
    assert list(_tags(rows).items()) == [("c", [1, 2]), ("a", [1])]
    truth = records.Family(run_dir.ground_truth("train", "evaluate"))
    assert truth.counts == [1, 1]


def test_classes_of_voc_are_the_default(write, small_devkit):
    (small_devkit / "classes.json").unlink()
    _, run_dir = write()
    assert len(run_dir.classes()) == 20


def test_a_split_of_other_classes_is_refused(write, small_devkit, tmp_path):
    write()
    (small_devkit / "ImageSets/Segmentation/val.txt").write_text("d\n")
    (small_devkit / "classes.json").unlink()
    with pytest.raises(InputError, match="other classes"):
        write(split="val")
    assert not (tmp_path / "run/data/val/images").exists()


def test_ground_truth_none(write):
    rows, run_dir = write(ground_truth="none", tags_from="masks")
    assert _tags(rows) == TAGS
    assert not run_dir.ground_truth("train", "write_voc").exists()
    assert run_dir.entry("write_voc/train/ground_truth") is None


def test_some_masks_are_refused_unless_told(write, small_devkit, tmp_path):
    (small_devkit / "SegmentationClass/b.png").unlink()
    with pytest.raises(InputError, match=r"expected 4 files, found 3; missing: b.*ground_truth=no"):
        write()
    assert not (tmp_path / "run").exists()
    write(ground_truth="none", tags_from="none")


def test_the_same_split_again_is_skipped(write):
    _, run_dir = write()
    before = run_dir.manifest()
    write()
    assert run_dir.manifest() == before


def test_pictures_that_are_no_plain_jpeg_are_converted(write, small_devkit):
    grey = np.arange(18 * 26, dtype=np.uint16).reshape(18, 26).astype(np.uint8)
    (small_devkit / "JPEGImages/a.jpg").write_bytes(jpeg(grey))
    rows, _ = write()
    assert rows["a"]["image/converted_from"] == "mode L"
    assert rows["a"]["image/encoded"].startswith(b"\x89PNG")
