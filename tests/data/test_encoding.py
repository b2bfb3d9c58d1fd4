"""What stays as it is, what is converted once, and masks as PNG."""

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from aepsl_tf.classes import VOC
from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError

PALETTE = VOC.palette()


def rgb(height=12, width=20, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def file(picture, form="PNG", **options):
    data = io.BytesIO()
    picture.save(data, form, **options)
    return data.getvalue()


def pixels(data):
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_upright_rgb_stays_the_same_bytes(form):
    data = file(rgb(), form)
    assert encoding.standard_image(data, "x") == (data, "", 12, 20, 1)


def test_upright_exif_stays_too():
    exif = Image.Exif()
    exif[0x0112] = 1
    data = file(rgb(), "JPEG", exif=exif)
    assert encoding.standard_image(data, "x")[:2] == (data, "")


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned a quarter to the right
    data = file(rgb(), "JPEG", exif=exif)
    out, reason, height, width, _ = encoding.standard_image(data, "x")
    assert reason == "EXIF rotation" and (height, width) == (20, 12)
    raw = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(pixels(out), np.rot90(raw, -1))
    assert encoding.standard_image(out, "x")[:2] == (out, "")  # and is not turned again


@pytest.mark.parametrize(
    ("picture", "form", "reason"),
    [
        (rgb().convert("CMYK"), "JPEG", "mode CMYK"),
        (rgb().convert("L"), "JPEG", "mode L"),
        (rgb().convert("P"), "PNG", "mode P"),
        (rgb().convert("1"), "PNG", "mode 1"),
        (rgb().convert("RGBA"), "PNG", "mode RGBA"),
        (rgb().convert("LA"), "PNG", "mode LA"),
        (rgb(), "WEBP", "format WEBP"),
        (rgb(), "BMP", "format BMP"),
        (rgb().convert("P"), "GIF", "format GIF, mode "),
    ],
)
def test_others_are_converted_with_a_reason(picture, form, reason):
    data = file(picture, form)
    out, why, height, width, _ = encoding.standard_image(data, "x")
    assert why.startswith(reason) and (height, width) == (12, 20)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pixels(out), expected)
    assert Image.open(io.BytesIO(out)).format == "PNG"
    assert encoding.standard_image(out, "x") == (out, "", 12, 20, 1)


def test_exif_that_pillow_warns_of_turns_all_the_same():
    """Whatever warnings are made of: those of tests are errors."""
    rows = struct.pack("<HHII", 0x010F, 2, 10**6, 38) + struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + rows + bytes(4)
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, "PNG", exif=exif)
    assert encoding.standard_image(file.getvalue(), "x").turned == 6


def test_alpha_is_laid_over_white():
    values = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    out, *_ = encoding.standard_image(file(Image.fromarray(values)), "x")
    np.testing.assert_array_equal(pixels(out), [[[10, 20, 30], [255, 255, 255]]])


def test_transparent_colour_of_an_rgb_png_is_laid_over_white():
    picture = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    out, reason, *_ = encoding.standard_image(file(picture, transparency=(1, 2, 3)), "x")
    assert reason
    np.testing.assert_array_equal(pixels(out), [[[255, 255, 255], [4, 5, 6]]])


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.array([[0, 257, 257 * 128, 65535]], np.uint16)
    out, reason, *_ = encoding.standard_image(file(Image.fromarray(values)), "x")
    assert reason.startswith("mode I")
    np.testing.assert_array_equal(pixels(out)[..., 0], [[0, 1, 128, 255]])


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_is_converted_too(channels):
    """Pillow reads it as mode RGB, which told nothing; alpha 65535 is opaque."""
    values = np.full([1, 4, channels], 65535, np.uint16)
    values[..., :3] = np.array([0, 257, 257 * 128, 65535], np.uint16)[None, :, None]
    values[..., 0] = 257 * 7
    encoded, data = cv2.imencode(".png", values[..., [2, 1, 0, 3][:channels]])
    out, reason, height, width, _ = encoding.standard_image(data.tobytes(), "x")
    assert encoded and (height, width) == (1, 4)
    assert reason == {3: "16 bit", 4: "mode RGBA"}[channels]
    expected = [[[7, v, v] for v in (0, 1, 128, 255)]]
    np.testing.assert_array_equal(pixels(out), expected)
    assert encoding.standard_image(out, "x") == (out, "", 1, 4, 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_file_is_refused_in_one_line(form):
    data = file(rgb(60, 60), form)
    with pytest.raises(InputError, match=r"cat\.jpg: not a readable picture") as caught:
        encoding.standard_image(data[: len(data) // 2], "cat.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_other_bytes_are_refused(data):
    with pytest.raises(InputError, match="note: not a readable picture"):
        encoding.standard_image(data, "note")


def test_pixel_sum_by_hand():
    picture = np.array([[[1, 2, 3], [255, 0, 7]]], np.uint8)
    assert encoding.pixel_sum(encoding.rgb_png(picture)) == [256, 2, 10]


def test_pixel_sum_does_not_overflow():
    picture = np.full((300, 300, 3), 255, np.uint8)
    assert encoding.pixel_sum(encoding.rgb_png(picture)) == [255 * 90000] * 3


def test_masks_round_trip():
    mask = np.random.default_rng(0).integers(0, 256, (9, 13)).astype(np.uint8)
    np.testing.assert_array_equal(encoding.read_grey_png(encoding.grey_png(mask)), mask)
    region = encoding.read_grey_png(encoding.grey_png(mask > 99))
    np.testing.assert_array_equal(region, np.where(mask > 99, 255, 0))
    assert region.dtype == np.uint8


def test_resize_mask_makes_no_new_id():
    mask = np.array([[0, 200], [255, 3]], np.uint8)
    assert encoding.resize_mask(mask, 2, 2) is mask
    big = np.repeat(np.repeat(mask, 3, 0), 2, 1)
    np.testing.assert_array_equal(encoding.resize_mask(mask, 6, 4), big)


@pytest.mark.parametrize("shape", [(1, 1), (7, 300)])
def test_palette_png_round_trip(shape):
    mask = np.resize(np.arange(256, dtype=np.uint8), shape)
    data = encoding.palette_png(mask, PALETTE)
    assert data == encoding.palette_png(mask.copy(), PALETTE)
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), mask)
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), PALETTE[mask])
