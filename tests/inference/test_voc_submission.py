"""The form of a submission, and what is none."""

import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from aepsl_tf import config
from aepsl_tf.classes import VOC, ClassSet, voc_palette
from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from aepsl_tf.inference import voc_submission
from aepsl_tf.inference.inputs import Picture

SIZES = {"2008_000001": (20, 30), "2008_000002": (31, 17)}


@pytest.fixture
def written(tmp_path):
    """(output folder, pictures) of two masks that are fit."""
    folder = tmp_path / "out" / voc_submission.FOLDER
    folder.mkdir(parents=True)
    pictures = []
    for seed, (id_, size) in enumerate(SIZES.items()):
        Image.new("RGB", size[::-1]).save(tmp_path / f"{id_}.jpg")
        pictures.append(Picture(id_, str(tmp_path), ".jpg"))
        mask = np.random.default_rng(seed).integers(0, 21, size).astype(np.uint8)
        (folder / f"{id_}.png").write_bytes(voc_submission.mask_png(mask))
    return tmp_path / "out", pictures


def test_the_archive_holds_the_masks_and_is_always_the_same(written):
    output, pictures = written
    digests = set()
    for order in (pictures, pictures[::-1]):
        voc_submission.pack(output, order)
        digests.add(hashlib.sha256((output / voc_submission.ARCHIVE).read_bytes()).hexdigest())
    assert len(digests) == 1
    with tarfile.open(output / voc_submission.ARCHIVE, "r:gz") as archive:
        entries = archive.getmembers()
        assert [e.name for e in entries] == [f"{voc_submission.FOLDER}/{id_}.png" for id_ in SIZES]
        assert {(e.mtime, e.uid, e.gid, e.mode) for e in entries} == {(0, 0, 0, 0o644)}
        for entry, size in zip(entries, SIZES.values(), strict=True):
            mask = Image.open(io.BytesIO(archive.extractfile(entry).read()))
            assert mask.mode == "P" and mask.size == size[::-1] and np.max(mask) <= 20
            assert mask.getpalette()[15 * 3 : 15 * 3 + 3] == [192, 128, 128]  # VOC's person


def test_a_picture_that_exif_turns_has_a_turned_mask(written):
    output, pictures = written
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 30)).save(pictures[0].file, exif=exif)
    voc_submission.pack(output, pictures)


def _png(mask, palette=None):
    return encoding.palette_png(mask, voc_palette() if palette is None else palette)


FIRST = np.zeros(SIZES["2008_000001"], np.uint8)
ODD = {
    "a class that VOC has not": (_png(FIRST + 21), "holds class id 21, above 20"),
    "void": (_png(FIRST + 255), "holds class id 255"),
    "another size": (_png(FIRST.T.copy()), "20 × 30 pixels, the picture has 30 × 20"),
    "other colours": (_png(FIRST, voc_palette()[::-1].copy()), "not in VOC's colours"),
    "grey": (encoding.grey_png(FIRST), "not in VOC's colours"),
    "damage": (_png(FIRST)[:-20], "cut off"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_mask_of_another_form_is_refused(written, kind):
    output, pictures = written
    data, message = ODD[kind]
    (output / voc_submission.FOLDER / "2008_000001.png").write_bytes(data)
    with pytest.raises(InputError, match=f"2008_000001.png: .*{message}"):
        voc_submission.pack(output, pictures)
    assert not (output / voc_submission.ARCHIVE).exists()


def test_one_too_many_or_too_few_is_refused(written):
    output, pictures = written
    with pytest.raises(InputError, match=r"2008_000002\.png is not of the list"):
        voc_submission.pack(output, pictures[:1])
    (output / voc_submission.FOLDER / "2008_000001.png").unlink()
    with pytest.raises(InputError, match=r"2008_000001\.png is missing"):
        voc_submission.pack(output, pictures)


def test_what_can_be_no_submission():
    settings, pictures = config.Predict(ids_file="test.txt"), [Picture("2008_000001", "", ".jpg")]
    voc_submission.refuse_unfit(VOC, settings, pictures)
    with pytest.raises(InputError, match="20 classes alone; this run has 2: cat, dog"):
        voc_submission.refuse_unfit(ClassSet.of_names(["cat", "dog"]), settings, pictures)
    with pytest.raises(InputError, match="--ids_file"):
        voc_submission.refuse_unfit(VOC, dataclasses.replace(settings, ids_file=""), pictures)
    with pytest.raises(InputError, match="a/b lies in a sub-folder"):
        voc_submission.refuse_unfit(VOC, settings, [Picture("a/b", "", ".jpg")])
