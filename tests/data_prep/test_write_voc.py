"""A devkit becomes images with the right tags and, apart from them, ground truth."""

import json
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
from conftest import jpeg, opened, reader, write_mask

from aepsl_tf import config, files
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.files import to_json, write_atomic
from aepsl_tf.run_dir import RunDir
from data_prep import masks, sources, tags, write_voc

TAGS = {"a": [1], "b": [2], "c": [1, 2], "d": [2]}


@pytest.fixture
def write(small_devkit, tmp_path):
    """`write(**settings)` → (image rows by id, RunDir)."""

    def write(restart=False, **changes):
        run_dir = RunDir(tmp_path / "run", restart)
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
        np.array(opened(small_devkit / f"JPEGImages/{i}.jpg"), float).reshape(-1, 3) for i in TAGS
    ]
    expected = np.concatenate(pixels).mean(0)
    found = records.Family(run_dir.family("train", "images")).facts["mean_pixel"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_ground_truth_is_the_masks(write, small_devkit):
    _, run_dir = write()
    rows = list(records.Family(run_dir.ground_truth("train", "evaluate")).read())
    assert [row["image/id"] for row in rows] == list(TAGS)
    for row in rows:
        expected = np.array(opened(small_devkit / f"SegmentationClass/{row['image/id']}.png"))
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
    rows, run_dir = write(
        labels_csv=str(file), classes_file=str(tmp_path / "classes.json"), untagged="negative"
    )
    assert _tags(rows) == {"a": [1], "b": [1, 2], "c": [2], "d": []}
    assert run_dir.classes().names == ("polar bear", "dog")


def test_tags_from_xml(write, small_devkit):
    for id_, names in {"a": ["dog", "dog"], "b": ["dog", "cat"], "c": ["cat"], "d": []}.items():
        _annotate(small_devkit, id_, names)
    rows, _ = write(tags_from="xml", untagged="negative")
    assert _tags(rows) == {"a": [2], "b": [1, 2], "c": [1], "d": []}


def test_untagged_is_of_every_split_but_validation(write, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("image,labels\na,dog\nb,cat\nc,\nd,dog\n")
    given = {"labels_csv": str(file), "train_split": "another"}
    with pytest.raises(InputError, match=r"1 of 4 .* first is c.* or --val_split=train where"):
        write(**given)
    assert _tags(write(**given, untagged="drop")[0]) == {"a": [2], "b": [1], "d": [2]}
    rows, _ = write(**given, val_split="train", restart=True)
    assert _tags(rows) == {"a": [2], "b": [1], "c": [], "d": [2]}


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


# ------------------------------------------------------------------------ truth belongs to a split


@pytest.fixture
def some_masks(small_devkit):
    """The devkit with XML for all images, and no mask of b; a and c are another split, `val`."""
    (small_devkit / "SegmentationClass/b.png").unlink()
    (small_devkit / "ImageSets/Segmentation/val.txt").write_text("a\nc\n")
    for id_ in TAGS:
        _annotate(small_devkit, id_, ["cat"])
    return small_devkit


def test_a_split_that_lacks_masks_has_no_truth_and_says_so(write, some_masks, caplog):
    caplog.set_level("INFO")
    rows, run_dir = write()
    assert _tags(rows) == {id_: [1] for id_ in TAGS}  # of the XML: some masks are no masks
    assert not run_dir.ground_truth("train", "write_voc").exists()
    assert run_dir.entry("write_voc/train/ground_truth") is None
    said = "train: tags from xml; ground truth: none, 3 of 4 masks are there"
    assert said in [record.getMessage() for record in caplog.records]

    rows, run_dir = write(split="val")
    assert _tags(rows) == {"a": [1], "c": [1, 2]}  # of its masks, which are all there
    assert records.Family(run_dir.ground_truth("val", "evaluate")).images == 2
    said = "val: tags from masks; ground truth: 2 masks"
    assert said in [record.getMessage() for record in caplog.records]


def test_a_split_whose_masks_are_all_in_the_augmented_folder(write, some_masks, caplog):
    """As `download_voc` leaves a devkit: VOC's own masks of some, SBD's and copies of these."""
    caplog.set_level("INFO")
    augmented = some_masks / "SegmentationClassAug"
    shutil.copytree(some_masks / "SegmentationClass", augmented)
    (augmented / "d.png").unlink()
    _, run_dir = write()  # neither folder has all four
    assert run_dir.entry("write_voc/train/ground_truth") is None
    assert "ground truth: none, 3 of 4 masks are there" in caplog.text
    for id_ in ("b", "d"):
        mask = np.full([18, 26], 2, np.uint8)
        write_mask(some_masks, id_, mask)
        (some_masks / f"SegmentationClass/{id_}.png").rename(augmented / f"{id_}.png")
    again, run_dir = write()
    family = records.Family(run_dir.ground_truth("train", "evaluate"))
    assert family.images == 4 and _tags(again) == {id_: [1] for id_ in TAGS}
    _, run_dir = write(split="val")
    assert "val: tags from masks; ground truth: 2 masks" in caplog.text
    write()  # finished before
    augmented.rename(some_masks / "elsewhere")
    assert write()[0] == again  # what is not there any more is not compared
    (some_masks / "elsewhere").rename(augmented)
    (augmented / "b.png").write_bytes((augmented / "a.png").read_bytes())
    with pytest.raises(InputError, match="write_voc/train/ground_truth was finished with another"):
        write()


def test_tags_of_a_csv_win_over_some_masks(write, some_masks, tmp_path):
    (tmp_path / "labels.csv").write_text("image,labels\na,dog\nb,dog\nc,dog\nd,dog\n")
    rows, _ = write(labels_csv=str(tmp_path / "labels.csv"))
    assert _tags(rows) == {id_: [2] for id_ in TAGS}


def test_some_masks_and_nothing_else_give_no_tags(write, some_masks):
    shutil.rmtree(some_masks / "Annotations")
    rows, _ = write()
    assert _tags(rows) == {id_: [] for id_ in TAGS}


def test_tags_from_masks_need_all_of_them(write, some_masks, tmp_path):
    expected = r"expected 4 files, found 3; missing: b.*another --tags_from"
    with pytest.raises(InputError, match=expected):
        write(tags_from="masks")
    assert not (tmp_path / "run").exists()


def test_no_truth_where_it_is_switched_off(write, some_masks, caplog):
    caplog.set_level("INFO")
    _, run_dir = write(split="val", ground_truth="none")
    assert run_dir.entry("write_voc/val/ground_truth") is None
    assert "ground truth: none (--ground_truth=none)" in caplog.text


def test_masks_that_come_later_give_truth_and_no_other_tags(write, some_masks):
    rows, run_dir = write()
    write_mask(some_masks, "b", np.full([18, 26], 2, np.uint8))
    again, run_dir = write()
    assert again == rows
    assert records.Family(run_dir.ground_truth("train", "evaluate")).images == 4


def test_nor_do_they_give_tags_where_there_were_none(write, some_masks):
    rows, _ = write(tags_from="none")
    shutil.rmtree(some_masks / "Annotations", ignore_errors=True)
    write_mask(some_masks, "b", np.full([18, 26], 2, np.uint8))
    again, run_dir = write(tags_from="none")
    assert again == rows and run_dir.is_current("write_voc/train/ground_truth")


def test_a_mask_that_is_gone_again_is_noticed(write, some_masks):
    write()
    write_mask(some_masks, "b", np.full([18, 26], 2, np.uint8))
    write()
    (some_masks / "SegmentationClass/b.png").unlink()
    with pytest.raises(InputError, match="write_voc/train/ground_truth was finished with another"):
        write()


@pytest.mark.parametrize("how", ["switched off", "masks gone"])
def test_truth_of_images_that_were_redone_without_it_is_gone(write, small_devkit, how):
    for id_, names in zip("abcd", (["cat"], ["dog"], ["cat", "dog"], ["dog"]), strict=True):
        _annotate(small_devkit, id_, names)
    _, run_dir = write()
    truth = run_dir.ground_truth("train", "evaluate")
    assert truth.exists()
    changes = {}
    if how == "switched off":
        changes["ground_truth"] = "none"
    else:
        (small_devkit / "SegmentationClass/b.png").unlink()
    _, run_dir = write(restart=True, **changes)
    assert not truth.exists()
    assert run_dir.entry("write_voc/train/ground_truth") is None


def test_a_mask_that_went_between_the_images_and_the_truth(write, small_devkit, monkeypatch):
    for id_, names in zip("abcd", (["cat"], ["dog"], ["cat", "dog"], ["dog"]), strict=True):
        _annotate(small_devkit, id_, names)
    monkeypatch.setattr(write_voc, "_mask_row", _killed)
    with pytest.raises(KeyboardInterrupt):
        write(tags_from="xml")
    (small_devkit / "SegmentationClass/b.png").unlink()
    with pytest.raises(InputError, match=r"SegmentationClass: expected 4 files, found 3"):
        write(tags_from="xml")


def test_a_list_of_the_devkit_is_found_there(write, small_devkit, tmp_path, monkeypatch):
    (small_devkit / "ImageSets/Segmentation/few.txt").write_text("d\n")
    monkeypatch.chdir(tmp_path)
    rows, _ = write(ids_file="few.txt")
    assert list(rows) == ["d"]
    (tmp_path / "few.txt").write_text("d\nc\n")  # the name as it stands comes first
    with pytest.raises(InputError, match=r"another --ids_file \(the content of few.txt"):
        write(ids_file="few.txt")
    with pytest.raises(InputError, match=r"=none.txt: not there, nor in .*ImageSets/Segmentation"):
        write(split="other", ids_file="none.txt")
    with pytest.raises(InputError, match=r"give --split one of the lists in .*Segmentation"):
        write(split="other")
    with pytest.raises(InputError, match=f"give --split one of the lists in {tmp_path}, or"):
        write(split="other", lists_dir=str(tmp_path))


# ---------------------------------------------------------------------------------- written before


def test_the_same_split_again_is_skipped(write):
    _, run_dir = write()
    before = run_dir.manifest()
    write()
    assert run_dir.manifest() == before


@pytest.fixture
def no_decoding(monkeypatch):
    """Arms a guard: nothing of a devkit may be decoded from then on."""

    def arm():
        for module, name in ((masks.Masks, "read"), (write_voc, "_image_row"), (tags, "from_xml")):
            monkeypatch.setattr(module, name, None)

    return arm


def test_what_was_written_is_not_decoded_again(write, no_decoding):
    rows, _ = write()
    no_decoding()
    assert write()[0] == rows


def test_nor_are_pictures_read_that_nobody_touched(write, small_devkit, monkeypatch):
    rows, _ = write()
    read = []
    original = files._sha256
    monkeypatch.setattr(files, "_sha256", lambda path: read.append(path.name) or original(path))
    assert write()[0] == rows
    assert {n for n in read if n[:6] not in ("images", "family")} == {"train.txt", "classes.json"}


@pytest.mark.parametrize("gone", [".", "JPEGImages", "SegmentationClass", "ImageSets"])
def test_a_split_that_is_written_needs_no_devkit(write, small_devkit, no_decoding, gone):
    rows, run_dir = write()
    truth = run_dir.entry("write_voc/train/ground_truth")
    (small_devkit / gone).rename(small_devkit.with_name("away"))
    no_decoding()
    again, run_dir = write()
    assert again == rows
    assert run_dir.entry("write_voc/train/ground_truth") == truth
    with pytest.raises(InputError):
        write(split="val")  # which is not written


def test_nor_does_one_without_a_class_file(write, small_devkit, no_decoding):
    """As every real VOC devkit is."""
    (small_devkit / "classes.json").unlink()
    rows, _ = write()
    small_devkit.rename(small_devkit.with_name("away"))
    no_decoding()
    assert write()[0] == rows
    (small_devkit.with_name("away") / "classes.json").write_text('[{"name": "cat"}]')
    small_devkit.with_name("away").rename(small_devkit)
    with pytest.raises(InputError, match="--classes_file"):
        write()


def test_half_a_split_needs_the_devkit(write, small_devkit, monkeypatch):
    """Killed between the images and the ground truth."""
    with monkeypatch.context() as patch:
        patch.setattr(write_voc, "_mask_row", _killed)
        with pytest.raises(KeyboardInterrupt):
            write()
    away = small_devkit.rename(small_devkit.with_name("away"))
    with pytest.raises(InputError, match="expected a folder that holds JPEGImages"):
        write()
    away.rename(small_devkit)
    _, run_dir = write()
    assert run_dir.entry("write_voc/train/ground_truth") is not None


def _killed(*_):
    raise KeyboardInterrupt


def test_a_moved_devkit_is_the_same(write, small_devkit, no_decoding):
    rows, _ = write()
    small_devkit.rename(small_devkit.with_name("voc2"))
    no_decoding()
    assert write(voc_root=str(small_devkit.with_name("voc2")) + "/")[0] == rows


def test_the_same_list_under_another_name_is_the_same(write, small_devkit, tmp_path):
    rows, _ = write()
    own = small_devkit / "ImageSets/Segmentation/train.txt"
    shutil.copy(own, tmp_path / "ids.txt")
    assert write(ids_file=str(tmp_path / "ids.txt"))[0] == rows


def _list(root, tmp_path):
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    return "ids_file"


def _ids_file(root, tmp_path):
    (tmp_path / "ids.txt").write_text("a\n")
    return "ids_file"


def _classes(root, tmp_path):
    path = root / "classes.json"
    path.write_text(path.read_text().replace("dog", "fox"))
    return "classes_file"


def _no_classes(root, tmp_path):
    (root / "classes.json").unlink()
    return "classes_file"


def _tag_file(root, tmp_path):
    (tmp_path / "labels.csv").write_text("image,labels\na,dog\nb,cat\nc,cat\nd,cat\n")
    return "labels_csv"


def _picture(root, tmp_path):
    shutil.copy(root / "JPEGImages/a.jpg", root / "JPEGImages/b.jpg")
    return "voc_root"


def _mask(root, tmp_path):
    shutil.copy(root / "SegmentationClass/a.png", root / "SegmentationClass/b.png")
    return "voc_root"


def _no_picture(root, tmp_path):
    (root / "JPEGImages/b.jpg").unlink()
    return "voc_root"


@pytest.mark.parametrize("killed", [False, True], ids=["finished", "begun"])
@pytest.mark.parametrize(
    "change",
    [_list, _ids_file, _classes, _no_classes, _tag_file, _picture, _mask, _no_picture],
    ids=lambda f: f.__name__,
)
def test_another_content_is_refused(write, small_devkit, tmp_path, monkeypatch, change, killed):
    """Under the same name, by the name of its flag; of a split that is written or half written."""
    (tmp_path / "ids.txt").write_text("a\nb\n")
    (tmp_path / "labels.csv").write_text("image,labels\na,cat\nb,cat\nc,cat\nd,cat\n")
    settings = {
        _ids_file: {"ids_file": str(tmp_path / "ids.txt")},
        _tag_file: {"labels_csv": str(tmp_path / "labels.csv")},
    }.get(change, {})
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(write_voc, "_image_facts", _killed)
            with pytest.raises(KeyboardInterrupt):
                write(**settings)
        assert list((tmp_path / "run/data/train/images.partial").glob("*.tfrecord"))
    else:
        write(**settings)
    name = change(small_devkit, tmp_path)
    if killed and change is _no_picture:
        name = "b. Add them"  # what is to be read is missed before anything else
    with pytest.raises(InputError, match=name) as caught:
        write(**settings)
    assert "begun with" in str(caught.value) or "finished with" in str(caught.value) or killed
    assert "\n" not in str(caught.value)


def test_restart_takes_the_new_content(write, small_devkit):
    write()
    (small_devkit / "ImageSets/Segmentation/train.txt").write_text("d\na\n")
    rows, run_dir = write(restart=True)
    assert _tags(rows) == {"d": [2], "a": [1]}
    assert records.Family(run_dir.ground_truth("train", "evaluate")).images == 2


def test_the_devkit_s_identity_is_that_of_its_names_in_order(write, small_devkit):
    """Ids of which one begins another, in no order, and suffixes that end with it."""
    ids = ["a", "a.b", "a-b", "a.jp", "a.b.c", "aa", "a b"]
    suffixes = [".jpg", ".JPG", ".jpeg", ".jpg", ".png", ".jpg", ".Jpg"]
    for id_, suffix in zip(ids[1:], suffixes[1:], strict=True):
        for folder, old, new in (
            ("JPEGImages", ".jpg", suffix),
            ("SegmentationClass", ".png", ".png"),
        ):
            shutil.copy(small_devkit / folder / f"a{old}", small_devkit / folder / f"{id_}{new}")
    (small_devkit / "ImageSets/Segmentation/train.txt").write_text("\n".join(reversed(ids)))
    _, run_dir = write()
    names = [f"JPEGImages/{id_}{suffix}" for id_, suffix in zip(ids, suffixes, strict=True)]
    names += [f"SegmentationClass/{id_}.png" for id_ in ids]
    root = str(small_devkit)
    for key in ("write_voc/train", "write_voc/train/ground_truth"):
        known = run_dir.entry(key)["config"]["voc_root"]
        assert known == files.Content(root, root, names).to_json()


def test_items_reach_another_process(write, monkeypatch):
    """Beam's workers are handed them pickled."""
    seen, real = [], records.write_family

    def write_family(directory, family, counts, items, *args, **kwargs):
        if family == "images":
            seen.extend(list(pickle.loads(pickle.dumps(items))(i)) for i in range(len(counts)))
        real(directory, family, counts, items, *args, **kwargs)

    monkeypatch.setattr(records, "write_family", write_family)
    write()
    assert [[(id_, labels) for id_, _, labels in shard] for shard in seen] == [
        [("a", (1,)), ("b", (2,))],
        [("c", (1, 2)), ("d", (2,))],
    ]


def test_memory_hardly_grows_with_the_split(tmp_path, monkeypatch):
    """An image's name (63 bytes) and little more is kept, of names in other forms nothing."""
    row = {"image/encoded": b"", "image/converted_from": "", "image/height": 1, "image/width": 1,
           "image/pixel_sum": [0, 0, 0], "image/labels": [1]}  # fmt: skip
    monkeypatch.setattr(write_voc, "_image_row", lambda _, item: row | {"image/id": item[0]})
    monkeypatch.setattr(masks.Masks, "read", lambda *_: np.ones([1, 1], np.uint8))
    monkeypatch.setattr(masks, "warn_of_palette", lambda *_: None)
    monkeypatch.setattr(files, "_sha256", lambda _: "0" * 64)  # its buffers are of other sizes
    peaks = {}
    for count in (10, 300, 1500):  # the first time all else is loaded
        root = tmp_path / f"{count}"
        for folder, suffix in {"JPEGImages": ".jpg", "SegmentationClass": ".png"}.items():
            (root / folder).mkdir(parents=True)
            for i in range(count):
                (root / folder / f"{i:06d}{suffix}").touch()
        (root / "list.txt").write_text("\n".join(f"{i:06d}" for i in range(count)))
        settings = reader(voc_root=str(root), ids_file=str(root / "list.txt"))(config.WriteVoc)
        tracemalloc.start()
        write_voc.run(settings, RunDir(root / "run"), workers=1)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (peaks[1500] - peaks[300]) / 1200 < 130


@pytest.mark.parametrize(
    ("given", "most"), [({"voc_root": ""}, (80, 150)), ({"images_dir": "JPEGImages"}, (88, 160))]
)
def test_of_an_image_its_name_is_kept_and_while_its_folder_is_listed_that_listing_too(
    tmp_path, given, most
):
    """The id (55 bytes) and its places in lists of 8; the system's names are 60 bytes each."""
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "list.txt").write_text("\n".join(f"{i:06d}" for i in range(5000)))
    for i in range(5000):
        (tmp_path / "JPEGImages" / f"{i:06d}.jpg").touch()
    given = {name: str(tmp_path / value) for name, value in given.items()}
    if "voc_root" in given:
        given["ids_file"] = str(tmp_path / "list.txt")
    tracemalloc.start()
    source = sources.of(config.WriteVoc(**given))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.ids) == 5000
    assert kept / 5000 < most[0] and peak / 5000 < most[1]


def test_a_tag_file_that_is_not_read_does_not_count(write, tmp_path):
    rows, _ = write(tags_from="masks")
    (tmp_path / "labels.csv").write_text("image,labels\n")
    assert write(tags_from="masks", labels_csv=str(tmp_path / "labels.csv"))[0] == rows
    with pytest.raises(InputError, match="tags_from"):
        write(labels_csv=str(tmp_path / "labels.csv"))


def test_a_run_of_an_older_version_is_skipped(write, small_devkit, no_decoding):
    """Its manifest holds paths, and no fact of the split."""
    rows, run_dir = write()
    manifest = run_dir.manifest()
    for entry in manifest.values():
        old = {"voc_root": str(small_devkit), "ids_file": "", "classes_file": "", "labels_csv": ""}
        entry["config"] |= old
        entry["facts"] = {}
    write_atomic(run_dir.root / "manifest.json", to_json(manifest))
    no_decoding()
    assert write(voc_root=f"{small_devkit}/")[0] == rows
    small_devkit.rename(small_devkit.with_name("away"))
    assert write()[0] == rows
    with pytest.raises(InputError, match="--voc_root"):
        write(voc_root=str(small_devkit.with_name("away")))


def test_a_helper_needs_no_devkit(write, small_devkit):
    _, run_dir = write()
    small_devkit.rename(small_devkit.with_name("away"))
    settings = config.WriteVoc(voc_root=str(small_devkit), shards=2)
    write_voc.run(settings, RunDir(run_dir.root, worker=1))


def test_pictures_that_are_no_plain_jpeg_are_converted(write, small_devkit):
    grey = np.arange(18 * 26, dtype=np.uint16).reshape(18, 26).astype(np.uint8)
    (small_devkit / "JPEGImages/a.jpg").write_bytes(jpeg(grey))
    rows, _ = write()
    assert rows["a"]["image/converted_from"] == "mode L"
    assert rows["a"]["image/encoded"].startswith(b"\x89PNG")
