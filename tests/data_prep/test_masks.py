"""Masks as people draw them: ids or colours, upright or as the camera lay, whole or damaged."""

import io
import logging

import numpy as np
import pytest
from conftest import jpeg
from PIL import Image

from aepsl_tf.classes import VOC, VOID, ClassSet
from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from data_prep import masks

CLASSES = ClassSet(("cat", "dog"), ((10, 20, 30), (40, 50, 60)), (False, True))
IDS = np.uint8([[0, 1, 2, 255], [2, 2, 0, 1], [1, 0, 0, 255]])
TURNED = {3: lambda m: m[::-1, ::-1], 6: lambda m: np.rot90(m, 1), 8: lambda m: np.rot90(m, -1)}
"""EXIF orientation → an upright array as the camera wrote it."""


def saved(path, picture, **options):
    picture.save(path, "PNG", **options)
    return path


def palette(ids, colors):
    picture = Image.fromarray(ids, "P")
    picture.putpalette(np.uint8(colors).tobytes())
    return picture


def photo(path, upright, orientation=1):
    """A JPEG of this upright size, turned by EXIF."""
    pixels = np.zeros((*upright, 3), np.uint8)
    exif = Image.Exif()
    if orientation != 1:
        exif[0x0112] = orientation
        pixels = TURNED[orientation](pixels)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, "JPEG", exif=exif)
    return path


@pytest.fixture
def read(tmp_path):
    """`read(mask, picture=None, classes=CLASSES)` → ids of a mask in a folder of masks."""
    folder = tmp_path / "masks"
    folder.mkdir()

    def read(mask, picture=None, classes=CLASSES, max_pixels=1000):
        picture = picture or photo(tmp_path / "a.jpg", IDS.shape)
        path = folder / "a.png"
        if isinstance(mask, bytes):
            path.write_bytes(mask)
        else:
            saved(path, mask)
        return masks.Masks.of(folder, classes, max_pixels).read(path, picture)

    return read


def png(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def test_ids_of_palettes_and_grey(read):
    for picture in (palette(IDS, np.zeros((256, 3))), Image.fromarray(IDS)):
        found = read(picture)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, IDS)
    few = np.minimum(IDS, 2)
    data = png(palette(few, np.zeros((3, 3))), bits=2)
    assert data[24] == 2  # bits, which Pillow stretches where they are grey
    np.testing.assert_array_equal(read(data), few)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("colors", ["own", "voc"])
def test_colours_become_ids(read, mode, colors):
    named = {0: (0, 0, 0), 255: (224, 224, 192), 1: (10, 20, 30), 2: (40, 50, 60)}
    if colors == "voc":
        named |= {1: (128, 0, 0), 2: (0, 128, 0)}
    pixels = np.uint8([[named[int(c)] for c in row] for row in IDS])
    np.testing.assert_array_equal(read(Image.fromarray(pixels).convert(mode)), IDS)


@pytest.mark.parametrize("beside", [False, True])
def test_a_labelmap_of_cvat(read, tmp_path, beside):
    folder = tmp_path if beside else tmp_path / "masks"
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "DOG:1,1,1::",
             "cat:2,2,2::", "ignore:3,3,3::", "fence:9,9,9::", ""]  # fmt: skip
    (folder / "labelmap.txt").write_text("\r\n".join(lines))
    colors = np.uint8([0, 2, 1])  # of background, cat, dog
    grey = np.where(IDS == VOID, 3, colors[np.minimum(IDS, 2)])
    np.testing.assert_array_equal(read(Image.fromarray(np.stack([grey] * 3, -1))), IDS)
    (folder / "labelmap.txt").write_text("cat:1,2::\n")
    with pytest.raises(InputError, match=r"labelmap.txt: line 1: expected `name:r,g,b::`"):
        read(Image.fromarray(IDS))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_mask_drawn_as_the_camera_lay_is_turned_too(read, tmp_path, orientation):
    picture = photo(tmp_path / "turned.jpg", IDS.shape, orientation)
    np.testing.assert_array_equal(read(Image.fromarray(IDS), picture), IDS)  # drawn upright
    if orientation != 3:  # where only pixels could tell, it was drawn on what people see
        raw = np.ascontiguousarray(TURNED[orientation](IDS))
        np.testing.assert_array_equal(read(Image.fromarray(raw), picture), IDS)


BROKEN = {
    "an id above the classes": (lambda: png(Image.fromarray(np.uint8(3 * IDS % 6))),
                                r"holds class id 3; expected 0..2 or 255"),
    "another size": (lambda: png(Image.fromarray(IDS[:, :3])), "3 × 3 pixels, its pic.* 4 × 3"),
    "an unknown colour": (lambda: png(Image.new("RGB", (4, 3), (9, 8, 7))),
                          r"colour \(9, 8, 7\) is none of"),
    "half transparent": (lambda: png(Image.new("RGBA", (4, 3), (0, 0, 0, 9))), "got mode RGBA"),
    "16 bit": (lambda: png(Image.new("I;16", (4, 3))), "got mode I;16"),
    "1 bit": (lambda: png(Image.new("1", (4, 3))), "got mode 1"),
    "a JPEG": (lambda: jpeg(np.zeros((3, 4, 3), np.uint8)), "expected a PNG, found JPEG"),
    "empty": (lambda: b"", "cannot be read as a PNG"),
    "text": (lambda: b"no picture", "cannot be read as a PNG"),
    "cut": (lambda: png(Image.fromarray(IDS))[:-10], "cut off"),
    "a flipped byte": (lambda: png(Image.fromarray(IDS)).replace(b"IDAT", b"IDAu"), "checksum"),
    "too large": (lambda: png(Image.new("L", (50, 50))), "more than --max_pixels=1000"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_mask_is_told_in_one_line(read, kind):
    make, message = BROKEN[kind]
    with pytest.raises(InputError, match=message) as caught:
        read(make())
    assert "\n" not in str(caught.value) and "a.png" in str(caught.value)


def test_every_flipped_bit_of_a_mask_is_noticed(read):
    data = png(palette(IDS, np.zeros((256, 3))))
    whole = read(data)
    for place in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[place // 8] ^= 1 << place % 8
        try:
            found = read(bytes(spoilt))
        except InputError:
            continue
        np.testing.assert_array_equal(found, whole)


def painted(ids, colors):
    return Image.fromarray(np.uint8([[colors[int(i)] for i in row] for row in ids]))


def test_colours_that_two_classes_share_are_refused(read):
    same = ClassSet(("cat", "dog"), ((9, 9, 9), (9, 9, 9)), (False, False))
    mask = painted(np.uint8([[0, 1, 0, 0]] * 3), {0: (0, 0, 0), 1: (9, 9, 9)})
    with pytest.raises(InputError, match=r"\(9, 9, 9\) is the colour of two classes"):
        read(mask, classes=same)


def test_colours_that_mean_two_things_are_refused(read):
    """VOC's colours, the other way round."""
    swapped = ClassSet(("cat", "dog"), ((0, 128, 0), (128, 0, 0)), (False, False))
    mask = painted(np.minimum(IDS, 2), {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0)})
    with pytest.raises(InputError, match=r"one thing by the classes' colours and another by VOC's"):
        read(mask, classes=swapped)


def test_a_labelmap_stands_alone(read, tmp_path):
    (tmp_path / "masks" / "labelmap.txt").write_text(
        "background:0,0,0::\ncat:1,1,1::\na:b:2,2,2::\n"
    )
    classes = ClassSet(("cat", "a:b"), ((10, 20, 30), (40, 50, 60)), (False, False))
    colors = {0: (0, 0, 0), 1: (1, 1, 1), 2: (2, 2, 2)}
    ids = np.minimum(IDS, 2)
    np.testing.assert_array_equal(read(painted(ids, colors), classes=classes), ids)
    with pytest.raises(InputError, match=r"colour \(10, 20, 30\) is none of .*labelmap.txt"):
        read(painted(ids, colors | {1: (10, 20, 30)}), classes=classes)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP", "PNG"])
def test_records_and_masks_agree_on_how_a_picture_lies(read, tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"turned.{kind.lower()}"
    Image.fromarray(np.zeros((*IDS.shape, 3), np.uint8)).save(path, kind, exif=exif)
    standard = encoding.standard_image(path.read_bytes(), "a")
    assert (standard.height, standard.width) == IDS.shape[::-1]
    upright = np.rot90(IDS, -1)
    for mask in (IDS, upright):
        found = read(Image.fromarray(np.ascontiguousarray(mask)), path)
        np.testing.assert_array_equal(found, upright)


def test_a_missing_mask(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        masks.Masks.of(tmp_path, VOC, 1000).read(tmp_path / "none.png", tmp_path / "none.jpg")


def test_a_palette_that_contradicts_the_class_colours(tmp_path, caplog):
    def warned(colors):
        caplog.clear()
        path = saved(tmp_path / "m.png", palette(np.minimum(IDS, 2), colors))
        with caplog.at_level(logging.WARNING):
            masks.warn_of_palette([path], CLASSES)
        return caplog.text

    assert not warned([(0, 0, 0), (10, 20, 30), (40, 50, 60)])
    assert not warned([(0, 0, 0), (1, 1, 1), (2, 2, 2)])  # no colours: grey
    assert not warned([(0, 0, 0)])  # shorter than the ids that are used
    text = warned([(0, 0, 0), (40, 50, 60), (10, 20, 30)])
    assert "paints id 1 (40, 50, 60), the classes say cat is (10, 20, 30)" in text
