"""Odd files at every door of the house: read as they are meant, or refused by one line before
anything is published.

Readers have tests of their own beside this (`tests/data_prep`), and `campaign` damages them by the
thousand; here whole phases meet files as people have them.
"""

import io
import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from conftest import jpeg, reader, write_mask, write_onnx
from PIL import Image

from aepsl_tf import config
from aepsl_tf.data import records
from aepsl_tf.errors import InputError
from aepsl_tf.phases import evaluate, make_masks, predict, relabel, train_segmenter
from aepsl_tf.pipeline import Pipeline
from aepsl_tf.run_dir import RunDir
from data_prep import write_folder, write_saliency, write_voc

TAGS = {"a": [1], "b": [2], "c": [1, 2], "d": [2]}
SIZE = (18, 26)


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def pixels(size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def one_line(error):
    message = str(error.value)
    assert message and "\n" not in message
    return message


# ------------------------------------------------------------------------------------------ devkits


def _text(below, content):
    def spoil(root):
        path = root / below
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return {}

    return spoil


def _list(content):
    return _text("ImageSets/Segmentation/train.txt", content)


def _csv(content, **changes):
    def spoil(root):
        _text("tags.csv", content)(root)
        return {"labels_csv": str(root / "tags.csv")} | changes

    return spoil


def _picture(content, name="b.jpg"):
    def spoil(root):
        (root / "JPEGImages/b.jpg").unlink()
        (root / "JPEGImages" / name).write_bytes(content() if callable(content) else content)
        return {}

    return spoil


def _xml(content=None, **objects):
    def spoil(root):
        (root / "Annotations").mkdir()
        for id_, names in {"a": ["cat"], "b": ["dog"], "c": ["cat", "dog"], "d": ["dog"]}.items():
            of = "".join(f"<object><name>{name}</name></object>" for name in names)
            text = f"<annotation>{of}</annotation>".encode()
            if id_ == "b" and content is not None:
                text = content
            (root / f"Annotations/{id_}.xml").write_bytes(text)
        return {"tags_from": "xml"} | objects

    return spoil


def _mask(change):
    def spoil(root):
        path = root / "SegmentationClass/b.png"
        path.write_bytes(change(path.read_bytes()))
        return {}

    return spoil


def _photo_turned(root):
    """A portrait that the camera lay down for; its mask was drawn on the raw pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "JPEGImages/b.jpg"
    path.write_bytes(encoded(Image.fromarray(pixels((18, 26))), "JPEG", exif=exif))
    return {}


def _two_of_one_stem(root):
    (root / "JPEGImages/b.PNG").write_bytes(encoded(Image.fromarray(pixels())))
    return {}


def _suffixes(root):
    folder = root / "JPEGImages"
    os.rename(folder / "a.jpg", folder / "a.JPG")
    os.rename(folder / "b.jpg", folder / "b.jpeg")
    picture = Image.open(folder / "c.jpg")
    (folder / "c.png").write_bytes(encoded(picture))
    picture.close()
    (folder / "c.jpg").unlink()
    (folder / "d.jpg").unlink()
    Image.fromarray(pixels()).save(folder / "d.webp", lossless=True)
    return {}


def _spaces(root):
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        os.rename(root / folder / f"a{suffix}", root / folder / f"IMG 1{suffix}")
    return _list("IMG 1\nb\nc\nd\n")(root)


def _some_masks(root):
    (root / "SegmentationClass/b.png").unlink()
    return _xml()(root) | {"tags_from": "auto"}


def _binary_masks(root):
    for id_ in "abcd":
        write_mask(root, id_, np.where(np.arange(26) % 2, 255, 0).astype(np.uint8) * np.ones(
            (18, 1), np.uint8))  # fmt: skip
    return _csv("image,labels\na,cat\nb,dog\nc,cat;dog\nd,dog\n")(root)


def _colour_masks(root):
    colors = {0: (0, 0, 0), 255: (224, 224, 192), 1: (200, 90, 30), 2: (30, 90, 200)}
    for id_ in "abcd":
        path = root / f"SegmentationClass/{id_}.png"
        with Image.open(path) as picture:
            ids = np.array(picture)
        painted = np.uint8([[colors[int(i)] for i in row] for row in ids])
        path.write_bytes(encoded(Image.fromarray(painted)))
    return {}


def _link_to_itself(root):
    (root / "JPEGImages/b.jpg").unlink()
    os.symlink("b.jpg", root / "JPEGImages/b.jpg")
    return {}


def _folder_for(below):
    def spoil(root):
        (root / below).unlink(missing_ok=True)
        (root / below).mkdir(parents=True)
        return {}

    return spoil


def _classes(value):
    def spoil(root):
        return _text("classes.json", value if isinstance(value, str) else json.dumps(value))(root)

    return spoil


def _huge_png(width, height):
    """A true header of a picture that nobody should decode."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        data += (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
    return data


GB2312 = """<?xml version="1.0" encoding="gb2312"?>
<annotation><object><name>dog</name></object><!--狗--></annotation>"""
PNG = encoded(Image.fromarray(pixels()))
RENAMED = {"IMG 1": [1], "b": [2], "c": [1, 2], "d": [2]}

DEVKITS = {
    # name: (what is odd, the tags that are read or the message)
    "list: CRLF, blank lines, no last newline": (_list("\r\na\r\nb\r\n\r\nc\r\nd"), TAGS),
    "list: a byte-order mark": (_list(b"\xef\xbb\xbfa\nb\nc\nd\n"), TAGS),
    "list: UTF-16": (_list("a\nb\nc\nd\n".encode("utf-16")), TAGS),
    "list: path pairs": (_list("".join(f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n"
                                       for i in "abcd")), TAGS),
    "list: of ImageSets/Main": (_list("a -1\nb  1\nc  0\nd -1\n"), TAGS),
    "list: an id with a space": (_spaces, RENAMED),
    "list: an image that is not there": (_list("a\nz\n"), "JPEGImages: expected 2 files, found 1"),
    "list: a path out of the folder": (_list("a\n../b\n"), "line 2: '../b' is no image id"),
    "list: an id of 300 characters": (_list("a\n" + "x" * 300), "a name of more than 240 bytes"),
    "list: binary": (_list(bytes(range(256))), "train.txt: is no text"),
    "list: a folder": (_folder_for("ImageSets/Segmentation/train.txt"), "train.txt is not there"),
    "masks for some images": (_some_masks, TAGS),
    "pictures: .JPG .jpeg .png .webp": (_suffixes, TAGS),
    "pictures: two of one stem": (_two_of_one_stem, "b.PNG and b.jpg are one image's"),
    "picture: a cut JPEG": (_picture(jpeg(pixels())[:-200]), "b.jpg: not a readable picture"),
    "picture: a JPEG without its end": (_picture(jpeg(pixels())[:-2]),
                                       "b.jpg: not a readable picture"),
    "picture: a PNG cut by 10 bytes": (_picture(PNG[:-10], "b.png"), "b.png: .*cut off"),
    "picture: a PNG without IEND": (_picture(PNG[:-12], "b.png"), "b.png: .*its end is missing"),
    "picture: a PNG with a flipped bit": (_picture(PNG[:200] + bytes([PNG[200] ^ 1]) + PNG[201:],
                                                   "b.png"), "b.png: .*checksum"),
    "picture: text": (_picture(b"no picture"), "b.jpg: not a readable picture"),
    "picture: empty": (_picture(b""), "b.jpg: not a readable picture"),
    "picture: 30000 × 30000": (
        lambda root: _picture(_huge_png(30_000, 30_000), "b.png")(root) | _xml()(root)
        | {"ground_truth": "none"},
        "30000 × 30000 pixels are more than --max_pixels"),
    "picture: half transparent": (_picture(encoded(Image.new("RGBA", (26, 18), (9, 9, 9, 99))),
                                           "b.png"), TAGS),
    "picture: 16 bit": (_picture(encoded(Image.new("I;16", (26, 18), 999)), "b.png"), TAGS),
    "picture: CMYK": (_picture(encoded(Image.new("CMYK", (26, 18)), "JPEG")), TAGS),
    "picture: a moving GIF in a JPEG's name": (
        _picture(encoded(Image.new("P", (26, 18)), "GIF", save_all=True,
                         append_images=[Image.new("P", (26, 18), 1)])), TAGS),
    "picture: a folder": (_folder_for("JPEGImages/b.jpg"), "b"),
    "picture: a link to itself": (_link_to_itself, "b"),
    "photo turned by EXIF, its mask raw": (_photo_turned, TAGS),
    "mask: 0 and 255 alone": (_binary_masks, "holds nothing but 0 and 255"),
    "mask: colours": (_colour_masks, TAGS),
    "mask: an unknown colour": (_mask(lambda _: encoded(Image.new("RGB", (26, 18), (9, 9, 9)))),
                                r"b.png: colour \(9, 9, 9\) is none of"),
    "mask: another size": (_mask(lambda _: encoded(Image.new("L", (30, 20)))),
                           "30 × 20 pixels, its picture .* has 26 × 18"),
    "mask: one flipped byte": (_mask(lambda d: d[:60] + bytes([d[60] ^ 255]) + d[61:]),
                               "b.png: cannot be read as a PNG .*checksum"),
    "mask: a JPEG": (_mask(lambda _: jpeg(pixels())), "expected a PNG, found JPEG"),
    "mask: cut": (_mask(lambda d: d[:-10]), "b.png: cannot be read as a PNG .*cut off"),
    "mask: a class that there is not": (_mask(lambda _: encoded(Image.new("L", (26, 18), 7))),
                                        "holds class id 7; expected 0..2 or 255"),
    "CSV: an image in two lines": (_csv("image,labels\na,cat\nb,dog\nc,cat\nc,dog\nd,dog\n"), TAGS),
    "CSV: a byte-order mark": (_csv(b"\xef\xbb\xbfimage,labels\na,cat\nb,dog\nc,cat;dog\nd,dog\n"),
                               TAGS),
    "CSV: Latin-1": (_csv("image,labels\né,x\na,cat\nb,dog\nc,cat dog\nd,dog\n".encode("latin-1")),
                     TAGS),
    "CSV: semicolons": (_csv("image;labels\na;cat\nb;dog\nc;cat|dog\nd;dog\n"), TAGS),
    "CSV: case and space": (_csv("Image , Labels\na.jpg, Cat\nb,DOG \nc,cat; Dog\nd,dog\n"), TAGS),
    "CSV: labels without quotes": (_csv("image,labels\na,cat\nb,dog\nc,cat,dog\nd,dog\n"),
                                   "line 4 has 3 columns"),
    "CSV: a column short": (_csv("image,labels\na,cat\nb\nc,cat;dog\nd,dog\n"), "line 3 has 1 col"),
    "CSV: an unknown tag": (_csv("image,labels\na,cat\nb,zebra\nc,dog\nd,dog\n"), "tag 'zebra'"),
    "CSV: pictures without a tag": (_csv("image,labels\na,cat\nb,\nc,\nd,dog\n"),
                                    "2 of 4 pictures have no tag, the first is b"),
    "CSV: and dropped": (_csv("image,labels\na,cat\nb,\nc,cat;dog\nd,dog\n", untagged="drop"),
                         {"a": [1], "c": [1, 2], "d": [2]}),
    "CSV: and negative": (_csv("image,labels\na,cat\nb,\nc,cat;dog\nd,dog\n", untagged="negative"),
                          TAGS | {"b": []}),
    "CSV: a long field": (_csv("image,labels\na," + "x" * 200_000 + "\n"), "line 2: field larger"),
    "CSV: not there": (lambda root: {"labels_csv": str(root / "none.csv")}, "cannot be read"),
    "XML: gb2312": (_xml(GB2312.encode("gb2312")), TAGS),
    "XML: an encoding that there is not": (_xml(b'<?xml version="1.0" encoding="klingon"?><a/>'),
                                           "b.xml: not readable as XML"),
    "XML: an entity bomb": (_xml(b'<!DOCTYPE a [<!ENTITY b "bb">]><annotation>&b;</annotation>'),
                            "b.xml: .*it defines entities"),
    "XML: cut": (_xml(b"<annotation><object>"), "b.xml: not readable as XML"),
    "XML: without objects": (_xml(b"<annotation/>"), "1 of 4 pictures have no tag, the first is b"),
    "classes: names alone": (_classes("cat\ndog\n"), TAGS),
    "classes: a colour of 300": (_classes([{"name": "cat", "color": [300, 0, 0], "indoor": False},
                                           "dog"]), "three whole numbers from 0 to 255"),
    "classes: indoor as a text": (_classes([{"name": "cat", "indoor": "false"}, "dog"]),
                                  "indoor is true or false"),
    "classes: background": (_classes(["cat", "background"]), "'background' can be no class"),
    "classes: twice": (_classes(["cat", "cat"]), "found twice: cat"),
    "classes: empty": (_classes(["cat", ""]), "'' can be no class"),
    "classes: deep": (_classes("[" * 100_000), "cannot be read as a class list"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DEVKITS)
def test_a_devkit(small_devkit, tmp_path, kind):
    spoil, expected = DEVKITS[kind]
    changes = spoil(small_devkit)
    run = RunDir(tmp_path / "run")
    settings = reader(voc_root=str(small_devkit))(config.WriteVoc, **changes)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected) as caught:
            write_voc.run(settings, run, 1)
        one_line(caught)
        assert run.manifest() == {} and not run.family("train", "images").exists()
        return
    write_voc.run(settings, run, 1)
    rows = {row["image/id"]: row for row in records.Family(run.family("train", "images")).read()}
    assert {id_: row["image/labels"] for id_, row in rows.items()} == expected
    if run.entry("write_voc/train/ground_truth"):
        truth = records.Family(run.ground_truth("train", "evaluate"))
        for row in truth.read():
            with Image.open(io.BytesIO(row["mask/png"])) as mask:
                image = rows[row["image/id"]]
                assert mask.size == (image["image/width"], image["image/height"])


def test_a_real_train_aug(small_devkit, tmp_path):
    """Masks for some training images: it trains without truth, and says so; val keeps its own."""
    changes = _some_masks(small_devkit)
    _text("ImageSets/Segmentation/val.txt", "a\nc\n")(small_devkit)
    run = RunDir(tmp_path / "run")
    for split in ("train", "val"):
        settings = reader(voc_root=str(small_devkit))(config.WriteVoc, split=split, **changes)
        write_voc.run(settings, run, 1)
    assert run.entry("write_voc/train/ground_truth") is None
    assert run.entry("write_voc/val/ground_truth") is not None


# ------------------------------------------------------------------------------------------ folders


def _photos(root, names):
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpeg(pixels(seed=seed)))


FOLDERS = {
    # pictures, CSV or None, changes, tags by name or the message
    "a sub-folder a class": (["cat/a.jpg", "Dog/b.JPG"], None, {}, {"cat/a": ["cat"],
                                                                   "Dog/b": ["Dog"]}),
    "odd names": (["ü ß/1.jpg", "🐈/x%41.jpg", "a:b/y.jpg"], None, {},
                  {"ü ß/1": ["ü ß"], "🐈/x%41": ["🐈"], "a:b/y": ["a:b"]}),
    "tv/monitor": (["a.jpg"], "image,labels\na.jpg,tv/monitor\n", {}, {"a": ["tv/monitor"]}),
    "no tags": (["a.jpg"], None, {}, "no tag says what the classes are"),
    "no pictures": (["a.txt"], None, {}, "holds no picture"),
    "a picture without a line": (["a.jpg", "b.jpg"], "image,labels\na,cat\n", {}, "missing: b"),
    "two of one stem": (["a.jpg", "a.png"], "image,labels\na,cat\n", {}, "a.jpg and a.png"),
    "a class called background": (["background/a.jpg", "cat/b.jpg"], None, {},
                                  "'background' can be no class"),
    "hidden folders": (["cat/a.jpg", ".ipynb_checkpoints/a.jpg", "__MACOSX/cat/a.jpg",
                        "cat/.thumbs/a.jpg"], None, {}, {"cat/a": ["cat"]}),
    "Cat and cat": (["Cat/a.jpg", "cat/b.jpg"], None, {}, {"Cat/a": ["Cat"], "cat/b": ["Cat"]}),
    "all for validation": (["cat/a.jpg"], None, {"val_share": 0.999999},
                           "no picture is in this split"),
    "a list and a share": (["cat/a.jpg"], None, {"val_share": 0.5, "ids_file": "list.txt"},
                           "--ids_file and --val_share"),
    "a devkit too": (["cat/a.jpg"], None, {"voc_root": "voc"}, "give one"),
    "masks that are not there": (["cat/a.jpg"], None, {"masks_dir": "none"}, "--masks_dir=none"),
    "a name that is no UTF-8": (["cat/caf\udce9.jpg", "dog/b.jpg"], None, {},
                                "characters that file names should not hold"),
    "nothing tagged": (["a.jpg", "b.jpg"], "image,labels\na,\nb,\n",
                       {"untagged": "negative", "classes_file": "names.txt"}, "nothing to learn"),
    "XML": (["cat/a.jpg"], None, {"tags_from": "xml"}, "tags_from=xml is of a devkit"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder(tmp_path, kind):
    names, csv, changes, expected = FOLDERS[kind]
    _photos(tmp_path / "in", names)
    if csv:
        (tmp_path / "tags.csv").write_text(csv)
        changes = changes | {"labels_csv": str(tmp_path / "tags.csv")}
    (tmp_path / "list.txt").write_text("cat/a\n")
    (tmp_path / "names.txt").write_text("cat\n")
    changes = {k: str(tmp_path / v) if v in ("list.txt", "names.txt") else v
               for k, v in changes.items()}  # fmt: skip
    run = RunDir(tmp_path / "run")
    settings = config.WriteVoc(images_dir=str(tmp_path / "in"), **changes)
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected) as caught:
            write_folder.run(settings, run, 1)
        one_line(caught)
        assert run.manifest() == {}
        return
    write_folder.run(settings, run, 1)
    known = run.classes().all_names()
    rows = records.Family(run.family("train", "images")).read()
    assert {r["image/id"]: [known[c] for c in r["image/labels"]] for r in rows} == expected


def test_masks_among_the_pictures(tmp_path):
    _photos(tmp_path / "in", ["cat/a.jpg", "dog/b.jpg"])
    for id_ in ("cat/a", "dog/b"):
        path = tmp_path / f"in/masks/{id_}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.eye(*SIZE, dtype=np.uint8)).save(path)
    run = RunDir(tmp_path / "run")
    folder = str(tmp_path / "in")
    write_folder.run(config.WriteVoc(images_dir=folder, masks_dir=f"{folder}/masks"), run, 1)
    assert run.classes().names == ("cat", "dog")
    assert records.Family(run.ground_truth("train", "evaluate")).images == 2


# -------------------------------------------------------------------------------- a run's own files


def _flip(path, place=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if place is None else place] ^= 4
    path.write_bytes(data)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def _shard(root, family="data/train/images"):
    return sorted((root / family).glob("*.tfrecord"))[0]


def _foreign_shard(root):
    shutil.copy(_shard(root, "data/train/saliency"), _shard(root))


RUNS = {
    # what is spoilt, the phase that meets it, the message
    "class names, one bit": (lambda r: _flip(r / "data/classes.json"), "masks", "classes.json"),
    "the manifest, one bit": (lambda r: _flip(r / "manifest.json"), "masks", "manifest.json"),
    "the manifest, a list": (lambda r: (r / "manifest.json").write_text("[]"), "masks", "expected"),
    "the manifest, a folder": (_folder_for("manifest.json"), "masks", "cannot be read"),
    "images, one bit": (lambda r: _flip(_shard(r)), "segmenter", "damaged"),
    "images, cut": (lambda r: _cut(_shard(r)), "segmenter", "damaged"),
    "images, another family's shard": (_foreign_shard, "segmenter", "damaged"),
    "saliency, one bit": (lambda r: _flip(_shard(r, "data/train/saliency")), "masks", "damaged"),
    "regions, cut": (lambda r: _cut(_shard(r, "step_1/regions")), "masks", "damaged"),
    "masks, one bit": (lambda r: _flip(_shard(r, "masks/steps_1_to_2")), "segmenter", "damaged"),
    "ground truth, one bit": (lambda r: _flip(_shard(r, "data/val/ground_truth")), "evaluate",
                              "damaged"),
    "family.json": (lambda r: _flip(r / "data/train/images/family.json"), "segmenter", "damaged"),
    "settings.json of a model": (lambda r: _flip(r / "psl/settings.json"), "evaluate", "damaged"),
    "weights, one bit": (lambda r: _flip(r / "psl/tuned.weights.h5"), "evaluate", "damaged"),
    "weights, empty": (lambda r: (r / "psl/tuned.weights.h5").write_bytes(b""), "relabel",
                       "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", RUNS)
def test_a_run(run_copy, read, kind):
    spoil, phase, message = RUNS[kind]
    spoil(run_copy.root)
    phases = {
        "masks": (make_masks, read(config.MakeMasks, merge_steps=1, background_threshold=0.1)),
        "segmenter": (train_segmenter, read(config.TrainSegmenter, name="other")),
        "evaluate": (evaluate, read(config.Evaluate, model="psl", crf=False, p=0.3)),
        "relabel": (relabel, read(config.Relabel, model="psl", relabelled="relabelled_b")),
    }
    module, settings = phases[phase]
    before = sorted(p for p in run_copy.root.rglob("*") if p.is_dir())
    with pytest.raises(InputError, match=message) as caught:
        module.run(settings, RunDir(run_copy.root, restart=True), 1)
    one_line(caught)
    after = sorted(p for p in run_copy.root.rglob("*") if p.is_dir() and ".partial" not in str(p))
    assert after == before


# --------------------------------------------------------------------------------------- prediction


def _pictures(folder):
    folder.mkdir()
    (folder / "good.jpg").write_bytes(jpeg(pixels()))
    return folder


def _predict(finished, read, folder, **changes):
    given = {"images": str(folder), "output": str(folder.parent / "masks"), "crf": False}
    predict.run(read(config.Predict, **given | changes), finished.run_dir, 1)


BROKEN = {
    "a cut JPEG": ("x.jpg", jpeg(pixels())[:-200]),
    "a cut PNG": ("x.png", PNG[:-10]),
    "a bomb": ("x.png", _huge_png(30_000, 30_000)),
    "text": ("x.webp", b"no picture"),
    "nothing": ("x.bmp", b""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_one_broken_picture_never_costs_the_others(finished, read, tmp_path, kind):
    name, content = BROKEN[kind]
    folder = _pictures(tmp_path / "in")
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=f"1 of 2 pictures.*{name}") as caught:
        _predict(finished, read, folder)
    one_line(caught)
    assert (tmp_path / "masks/good.png").exists()


def _beside(folder):
    (folder / "good.png").write_bytes(PNG)


def _an_overlay_s_name(folder):
    (folder / "good_overlay.jpg").write_bytes(jpeg(pixels()))


def test_another_prediction_s_results_are_not_overwritten(finished, read, tmp_path):
    folder = _pictures(tmp_path / "in")
    _predict(finished, read, folder)
    first = {p.name: p.read_bytes() for p in (tmp_path / "masks").iterdir()}
    assert first.keys() == {"areas.csv", "good.png", "good_overlay.png", "predictions.json"}
    _predict(finished, read, folder)  # its own may be made again
    other = _pictures(tmp_path / "other")
    with pytest.raises(InputError, match="is there already and was not made of this picture"):
        _predict(finished, read, other, output=str(tmp_path / "masks"))
    assert {p.name: p.read_bytes() for p in (tmp_path / "masks").iterdir()} == first


@pytest.mark.parametrize("kind", ["a file", "a folder of the name", "one beside", "a long name"])
def test_an_output_that_cannot_be(finished, read, tmp_path, kind):
    folder = _pictures(tmp_path / "in")
    changes = {}
    if kind == "a file":
        (tmp_path / "masks").write_text("mine")
    elif kind == "a folder of the name":
        (tmp_path / "masks/good.png").mkdir(parents=True)
    elif kind == "one beside":
        (folder / "good.png").write_bytes(b"mine")
        changes = {"images": str(folder / "good.jpg"), "output": str(folder)}
    else:
        (folder / ("x" * 245 + ".jpg")).write_bytes(jpeg(pixels()))
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        _predict(finished, read, folder, **changes)
    one_line(caught)
    assert sorted(p for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("add", [None, _beside, _an_overlay_s_name])
def test_prediction_writes_over_nothing(finished, read, tmp_path, add):
    folder = _pictures(tmp_path / "in")
    if add is None:
        (folder / "good.jpg").rename(folder / "good.png")
        changes = {"output": str(folder)}
    else:
        add(folder)
        changes = {}
    before = {p: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(InputError) as caught:
        _predict(finished, read, folder, **changes)
    one_line(caught)
    assert {p: p.read_bytes() for p in folder.iterdir()} == before
    assert not (tmp_path / "masks").exists() or not list((tmp_path / "masks").iterdir())


# ------------------------------------------------------------------------ saliency, settings, whole


def _onnx_without_size(folder):
    return {"method": "onnx", "onnx_model": write_onnx(folder / "n.onnx", [1, 3, 0, 32])}


def _map_folder(make):
    def settings(folder):
        maps = folder / "maps"
        maps.mkdir()
        for id_ in "abcd":
            np.save(maps / f"{id_}.npy", np.eye(3))
        make(maps / "b.npy")
        return {"method": "folder", "maps_dir": str(maps)}

    return settings


SALIENCY = {
    "onnx: 0 × 32": (_onnx_without_size, "its input is 32 × 0 pixels"),
    "onnx: none": (lambda f: {"method": "onnx"}, "no such file"),
    "drfi: text": (lambda f: [(f / "m.npz").write_text("x"), {"method": "drfi", "drfi_model":
                   str(f / "m.npz")}][1], "no DRFI model"),
    "maps: none": (lambda f: {"method": "folder"}, "needs --maps_dir"),
    "maps: NaN": (_map_folder(lambda p: np.save(p, np.full((2, 2), np.nan))), "not finite"),
    "maps: cut": (_map_folder(_cut), "are no array"),
    "maps: one missing": (_map_folder(lambda p: p.unlink()), "no saliency map for image b"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SALIENCY)
def test_saliency(small_devkit, tmp_path, kind):
    make, message = SALIENCY[kind]
    run = RunDir(tmp_path / "run")
    write_voc.run(config.WriteVoc(voc_root=str(small_devkit)), run, 1)
    with pytest.raises(InputError, match=message) as caught:
        write_saliency.run(config.WriteSaliency(**make(tmp_path)), run, 1)
    one_line(caught)
    assert run.entry("write_saliency/train") is None


@pytest.mark.parametrize(
    "changes",
    [{"threshold": "nan"}, {"p": float("inf")}, {"momentum": 1.0}, {"dropout": 1.0},
     {"train_split": ".."}, {"learning_rate": 0.0}, {"lr_drop_epochs": "6,x"}, {"shards": 0},
     {"max_pixels": 0}, {"background_threshold": -0.1}, {"masks": "a/b"}],
    ids=str,
)  # fmt: skip
def test_a_dry_run_refuses_what_the_run_would(common, tmp_path, changes):
    read = reader(**common | changes)
    with pytest.raises(InputError, match="--") as caught:
        Pipeline(read(config.Pipeline), read, RunDir(tmp_path / "run"), 1).plan()
    one_line(caught)
    assert not (tmp_path / "run").exists()


def _no_tags(root):
    (root / "SegmentationClass/b.png").unlink()
    return {}


def _one_class(root):
    _classes(["thing"])(root)
    for id_ in "abcd":
        write_mask(root, id_, np.ones(SIZE, np.uint8))
    return {"label_loss": "softmax"}


def _negatives(**changes):
    return lambda root: _csv("image,labels\na,cat\nb,\nc,dog\nd,dog\n")(root) | changes


WHOLE = {
    "no tags": (_no_tags, "4 pictures have no tag"),
    "one class with softmax": (_one_class, "learns nothing of a single class"),
    "negatives with softmax": (_negatives(untagged="negative", label_loss="softmax"),
                               "softmax cannot learn from them"),
    "untagged": (_negatives(), "1 of 4 pictures have no tag"),
    "an unknown tag": (_csv("image,labels\na,zebra\nb,cat\nc,cat\nd,cat\n"), "tag 'zebra'"),
    "no devkit": (lambda root: {"voc_root": "none"}, "--voc_root=none"),
    "no tag file": (lambda root: {"labels_csv": "none.csv"}, "none.csv: cannot be read"),
    "no class file": (lambda root: {"classes_file": "none.json"}, "none.json: cannot be read"),
    "no masks": (lambda root: {"masks_dir": "none"}, "--masks_dir=none"),
    "no weights": (lambda root: {"weights": "none.h5", "backbone": "vgg16"},
                   "--weights=none.h5: no such file"),
    "weights of another backbone": (lambda root: {"weights": "imagenet"},
                                    "--backbone=vgg16_small has no ImageNet weights"),
    "no branch to start from": (lambda root: {"psl": "none"},
                                "--start_model=psl was trained with --psl=none"),
    "no DRFI": (lambda root: {"method": "drfi", "drfi_model": "none.npz"}, "none.npz"),
    "no maps": (lambda root: {"method": "folder", "maps_dir": "none"}, "no such folder"),
    "no network": (lambda root: {"method": "onnx", "onnx_model": "none.onnx"}, "no such file"),
}  # fmt: skip


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("kind", WHOLE)
def test_a_pipeline_is_refused_before_its_first_phase(small_devkit, common, tmp_path, kind, dry):
    spoil, message = WHOLE[kind]
    changes = {"voc_root": str(small_devkit)} | spoil(small_devkit)
    read = reader(**common | changes)
    run = RunDir(tmp_path / "run")
    with pytest.raises(InputError, match=message) as caught:
        Pipeline(read(config.Pipeline, dry_run=dry), read, run, 1).run()
    one_line(caught)
    assert not run.root.exists()
