"""The files of a picture, whose they are, and those of all pictures."""

import collections
import csv
import io
import json
import os
import tracemalloc

import numpy as np
import pytest
from conftest import opened
from PIL import Image

from aepsl_tf.classes import VOC, ClassSet
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_json, to_json
from aepsl_tf.inference import cells, crf, inputs, outputs, voc_submission
from aepsl_tf.inference.inputs import Picture

CLASSES = ClassSet.of_names(["cat", "dog"])
SMALL = crf.PRESETS["small"]


def wanted(preset=None, **changes):
    return outputs.Wanted(preset, CLASSES.palette(), CLASSES.all_names(), **changes)


def one_of(size=(20, 41), weights=(1, 1, 0.5)):
    """A `Cells` of one view."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (3, 6, len(weights))).astype(np.float32)
    places = (np.arange(n, dtype=np.float32) / 8 for n in size)
    picture = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return cells.Cells(picture, np.float32(weights), (cells.Seen(logits, *places),))


@pytest.mark.parametrize("kind", ["given", "plain", "crf"])
def test_mask_and_overlay(kind):
    one, mask = one_of(), None
    preset = SMALL if kind == "crf" else None
    if kind == "given":
        mask = np.zeros((40, 82), np.uint8)
        mask[:, 41:] = 2
    id_, files, pixels, scores = outputs.files_of(
        wanted(preset), ("sub/a", (40, 82), mask, one, None)
    )
    assert id_ == "sub/a" and scores is None
    assert list(files) == ["sub/a.png", "sub/a_overlay.png"]
    found, shown = (np.array(Image.open(io.BytesIO(data))) for data in files.values())
    expected = {"given": lambda: mask[1::2, 1::2], "plain": lambda: cells.plain_mask(one),
                "crf": lambda: cells.crf_mask(SMALL, one)}[kind]()  # fmt: skip
    assert found.shape == (40, 82) and len(np.unique(found)) > 1
    np.testing.assert_array_equal(found[1::2, 1::2], expected)
    assert shown.shape == (20, 41, 3)  # the picture as the network sees it
    np.testing.assert_array_equal(shown[expected == 0], one.picture[expected == 0])
    assert (shown[expected == 2] != one.picture[expected == 2]).any(1).mean() > 0.9
    np.testing.assert_array_equal(pixels, [(found == i).sum() for i in range(3)])


def test_scores_are_of_every_class_whatever_the_crf_does():
    one, v = one_of(weights=(1, 0, 0.5)), np.float32([0.05, 0.5])
    archives = []
    for preset in (None, SMALL):
        item = ("a", (20, 41), None, one, v)
        _, files, _, _ = outputs.files_of(wanted(preset, scores=True), item)
        archives.append(files["a_scores.npz"])
    assert archives[0] == archives[1]
    with np.load(io.BytesIO(archives[0]), allow_pickle=False) as arrays:
        found = arrays["probabilities"]
        assert found.dtype == np.float16 and found.shape == (20, 41, 3)
        np.testing.assert_allclose(found.sum(-1, dtype=np.float32), 1, atol=2e-3)
        np.testing.assert_array_equal(found[..., 1], 0)
        assert (found.argmax(-1) == cells.plain_mask(one)).mean() > 0.99
        assert arrays["names"].tolist() == ["background", "cat", "dog"]
        np.testing.assert_array_equal(arrays["scores"], v)


def test_a_submission_s_mask_has_voc_s_colours():
    files = outputs.files_of(wanted(voc=True), ("a", (20, 41), None, one_of(), None))[1]
    own, other = files["a.png"], files[f"{voc_submission.FOLDER}/a.png"]
    mask = Image.open(io.BytesIO(other))
    np.testing.assert_array_equal(np.array(mask), np.array(Image.open(io.BytesIO(own))))
    assert mask.getpalette()[3:6] == list(VOC.colors[0])


# ---------------------------------------------------------------------------------- the folder


def picture(folder, id_):
    path = folder / f"{id_}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return Picture.of(path, folder)


def predicted(tmp_path, ids, value=1, **changes):
    """Predicts pictures to be of one class, all of them: the output folder."""
    pictures = [picture(tmp_path / "in", id_) for id_ in ids]
    folder = outputs.Folder(str(tmp_path / "out"), pictures, wanted(), **changes)
    folder.begin()
    for id_ in ids:
        mask = np.full((6, 8), value, np.uint8)
        mask[0] = 0
        item = (id_, mask.shape, mask, one_of((6, 8)), np.float32([0.25, 0.75]))
        _, files, pixels, scores = outputs.files_of(wanted(), item)
        folder.write(files)
        folder.count(id_, pixels, scores)
    folder.finish(1)
    return folder.path


def rows_of(path):
    return list(csv.reader(io.StringIO((path / "areas.csv").read_text())))


def test_areas_of_every_class_in_a_mask(tmp_path):
    path = predicted(tmp_path, ["b", "a, b", "trip/a"])
    assert rows_of(path)[:5] == [
        ["image", "class", "pixels", "share", "score"],
        ["a, b", "background", "8", "0.166667", ""],
        ["a, b", "cat", "40", "0.833333", "0.2500"],
        ["b", "background", "8", "0.166667", ""],
        ["b", "cat", "40", "0.833333", "0.2500"],
    ]
    assert len(rows_of(path)) == 7


def test_any_name_is_read_again(tmp_path):
    names = ["a\r", 'b "quoted"', "c\nd", "e;f"]
    for _ in range(2):  # the second prediction reads what the first wrote
        path = predicted(tmp_path, names)
        with open(path / "areas.csv", newline="") as file:
            found = {row[0] for row in csv.reader(file, strict=True)}
        assert found == {"image", *names}


def test_what_is_of_all_pictures_keeps_those_of_earlier_predictions(tmp_path):
    predicted(tmp_path, ["a", "b"])
    path = predicted(tmp_path, ["b", "c"], value=2, with_coco=True)
    assert [(row[0], row[1]) for row in rows_of(path)[2::2]] == [
        ("a", "cat"), ("b", "dog"), ("c", "dog")
    ]  # fmt: skip
    found = json.loads((path / "coco.json").read_text())
    assert [one["file_name"] for one in found["images"]] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [one["category_id"] for one in found["annotations"]] == [1, 2, 2]
    assert found["annotations"][2]["bbox"] == [0, 1, 8, 5]


def test_a_later_prediction_leaves_nothing_of_masks_that_are_gone(tmp_path):
    path = predicted(tmp_path, ["a", "b"], with_coco=True, sheets=True)
    before = (path / "contact_sheet_001.png").read_bytes()
    predicted(tmp_path, ["a"], value=2)
    found = json.loads((path / "coco.json").read_text())
    assert [one["category_id"] for one in found["annotations"]] == [2, 1]
    assert (path / "contact_sheet_001.png").read_bytes() != before
    (path / "b.png").unlink(), (path / "coco.json").unlink()
    predicted(tmp_path, ["a"])
    assert {row[0] for row in rows_of(path)[1:]} == {"a"}  # as its mask is no more
    assert not (path / "coco.json").exists()  # who took it away does not want it


def test_what_is_made_of_a_picture_goes_with_its_mask(tmp_path):
    pictures = [picture(tmp_path / "in", "a"), picture(tmp_path / "in", "b")]
    path, archive = tmp_path / "out", tmp_path / "out" / voc_submission.ARCHIVE
    full = wanted(scores=True, voc=True)
    folder = outputs.Folder(str(path), pictures, full)
    folder.begin()
    folder.write({name: b"old" for id_ in "ab" for name in full.files(id_)})
    archive.write_bytes(b"old")
    folder = outputs.Folder(str(path), pictures[:1], wanted())
    folder.begin()
    assert (path / "a_scores.npz").exists()  # until there is another mask
    folder.write({name: b"new" for name in wanted().files("a")})
    there = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert there == {*full.files("b"), *wanted().files("a"), outputs.MADE}


def test_the_record_is_json_as_all_is(tmp_path):
    """Of names that JSON escapes, and the same when all is predicted again."""
    ids = ["é", 'a "b"', "trip/x", os.fsdecode(b"\xff"), "a-b", "a"]
    path, records = tmp_path / "out", []
    for some in (ids[:2], ids, ids, ids[3:]):
        predicted(tmp_path, some, sheets=True)
        records.append((path / outputs.MADE).read_bytes().decode())
        assert records[-1] == to_json(read_json(path / outputs.MADE, {str: str}, ""))
    assert len(json.loads(records[0])) == 6 and len(json.loads(records[1])) == 14
    assert records[1] == records[2] == records[3]
    assert "\\xff.jpg" in json.loads(records[1])[f"{ids[3]}.png"]
    assert len(rows_of(predicted(tmp_path, [*ids, "\\xff"]))) == 1 + 2 * 7  # two are shown alike


def test_a_picture_that_cannot_be_read_any_more_keeps_what_there_is_of_it(tmp_path):
    before = rows_of(predicted(tmp_path, ["a", "b", "c"]))
    (tmp_path / "out/c.png").unlink()
    pictures = [picture(tmp_path / "in", id_) for id_ in "abc"]
    folder = outputs.Folder(str(tmp_path / "out"), pictures, wanted())
    folder.begin()
    folder.count("a", np.array([0, 0, 48]), None)
    folder.finish(1)
    assert rows_of(folder.path) == [before[0], ["a", "dog", "48", "1.000000", ""], *before[3:5]]


def test_of_a_picture_little_is_kept(tmp_path, monkeypatch):
    """Some 300 bytes; before it was 2900."""
    monkeypatch.setattr(outputs, "write_atomic", lambda _, content: collections.deque(content, 0))
    pixels, v = np.array([500, 30, 7]), np.float32([0.25, 0.75])

    def written(count, name):
        found = inputs.find(str(tmp_path / f"{count}"))
        folder = outputs.Folder(str(tmp_path / name), found, wanted())
        folder.begin()
        for one in found:
            folder.write(dict.fromkeys(wanted().files(one.id), b""))
            folder.count(one.id, pixels, v)
        folder.finish(1)
        return found, folder

    for count in (200, 2200):
        (tmp_path / f"{count}").mkdir()
        for i in range(count):
            (tmp_path / f"{count}/{i:06}.jpg").touch()
    # Python has one table of all names that pathlib had. What it takes to grow, megabytes at once
    # in a process of many tests, belongs to nobody: these have a place in it before it counts.
    before = written(2200, "before")
    peaks = []
    for count in (200, 2200):
        tracemalloc.start()
        written(count, f"{count}_out")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    del before
    assert (peaks[1] - peaks[0]) / 2000 < 1000


def test_areas_that_are_not_ours_are_left(tmp_path):
    path = predicted(tmp_path, ["a"])
    (path / "areas.csv").write_text("mine\n")
    with pytest.raises(InputError, match=r"areas.csv: is not as it was written"):
        predicted(tmp_path, ["b"])
    assert (path / "areas.csv").read_text() == "mine\n" and not (path / "b.png").exists()


@pytest.mark.parametrize("name", ["areas.csv", "coco.json", "contact_sheet_001.png"])
def test_a_file_of_a_name_that_is_wanted_is_left(tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} is there already and was not made by predict"):
        predicted(tmp_path, ["a"], with_coco=True, sheets=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_contact_sheets_are_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "_SHEET", (3, 2, 40))
    path = predicted(tmp_path, [f"p{i}" for i in range(7)], sheets=True)
    pages = sorted(path.glob("contact_sheet_*.png"))
    assert [page.name for page in pages] == ["contact_sheet_001.png", "contact_sheet_002.png"]
    first, second = map(opened, pages)
    assert first.width == 6 + 3 * 46 and second.width == 6 + 46
    assert first.height < 150 and second.height < first.height
    # A picture that is taken away leaves its place; a page that holds none any more is taken away.
    (path / "p6.png").unlink(), (path / "p6_overlay.png").unlink()
    predicted(tmp_path, ["p0"], sheets=True)
    assert [page.name for page in path.glob("contact_sheet_*.png")] == ["contact_sheet_001.png"]


def test_names_that_look_like_others(tmp_path):
    """A mask of x_overlay.jpg, and pictures that are links to what has another name."""
    pictures = [picture(tmp_path / "in", "x_overlay")]
    (tmp_path / "in/link.jpg").symlink_to(tmp_path / "in/x_overlay.jpg")
    pictures.append(Picture.of(tmp_path / "in/link.jpg", tmp_path / "in"))
    folder = outputs.Folder(str(tmp_path / "out"), pictures, wanted())
    folder.begin()
    assert [id_ for id_, _ in folder._pictures()] == ["link", "x_overlay"]
    with pytest.raises(InputError, match=r"x_overlay.jpg and x.jpg would both be written as"):
        predicted(tmp_path, ["x_overlay", "x"])


def test_two_of_one_name_are_told_apart(tmp_path):
    pictures = [picture(tmp_path / name, "x") for name in ("one", "two")]
    with pytest.raises(InputError, match=r"one/x.jpg and /.*two/x.jpg would both be written as x"):
        outputs.Folder(str(tmp_path / "out"), pictures, wanted())


@pytest.mark.parametrize(
    "kind",
    ["a file for a folder", "a folder for a file", "both", "a link to nothing", "a page"],
)
def test_an_output_that_cannot_be(tmp_path, kind):
    (tmp_path / "out").mkdir()
    ids = ["trip/a"]
    if kind == "a file for a folder":
        (tmp_path / "out/trip").write_text("mine")
        message = "trip is a file"
    elif kind == "a folder for a file":
        predicted(tmp_path, ["trip/a"])
        (tmp_path / "out/trip/a.png").unlink()
        (tmp_path / "out/trip/a.png").mkdir()
        message = "trip/a.png is there already"
    elif kind == "both":
        ids, message = ["trip", "trip.png/a"], "trip.png would be both a mask and a folder"
    elif kind == "a page":
        ids, message = ["contact_sheet_001"], "contact_sheet_001.jpg and what is of all pictures"
    else:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").symlink_to(tmp_path / "gone/below")
        message = "--output=.*: cannot be written to"
    with pytest.raises(InputError, match=message) as error:
        predicted(tmp_path, ids, sheets=True)
    assert "\n" not in str(error.value)


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    def full(path, content):
        if path.name != outputs.MADE:
            raise OSError(28, "No space left on device")
        path.write_text("".join(content))

    monkeypatch.setattr(outputs, "write_atomic", full)
    with pytest.raises(InputError, match=r"a.png: cannot be written \(No space left on device\)$"):
        predicted(tmp_path, ["a"])


def test_a_mask_that_was_damaged_since_is_named(tmp_path):
    path = predicted(tmp_path, ["a", "b"])
    (path / "a.png").write_bytes((path / "a.png").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"a.png: cannot be read any more .*predict its picture"):
        predicted(tmp_path, ["b"], with_coco=True)
