"""To the network's size and back, against TensorFlow's own resizing and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.data import geometry, transforms
from aepsl_tf.inference import cells

NO_LIMIT = 1 << 40
SIZES = [(33, 33), (20, 41), (41, 20), (1, 1), (1, 70), (75, 100)]


def network(mode, size=33):
    return configs.Network(input=mode, input_size=size)


def pictures(height, width, count=1, seed=0):
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_crop_pads_and_warp_resizes(size):
    images = pictures(*size, count=2)
    floats = tf.cast(images, tf.float32)
    padded = geometry.to_network(images, network("crop"), NO_LIMIT)
    np.testing.assert_array_equal(padded, transforms.pad_to_cells(floats))
    warped = geometry.to_network(images, network("warp"), NO_LIMIT)
    assert warped.dtype == tf.float32
    np.testing.assert_array_equal(warped, tf.image.resize(floats, [33, 33]))
    # Training warps picture by picture.
    np.testing.assert_array_equal(warped[1], transforms.warp(images[1], 33))


@pytest.mark.parametrize("mode", ["crop", "warp"])
@pytest.mark.parametrize("size", SIZES)
def test_the_way_back_is_the_zoom_to_the_input_and_what_undoes_warp_or_padding(mode, size):
    config = network(mode)
    inputs = geometry.to_network(pictures(*size), config, NO_LIMIT)
    height, width = (int(n) for n in inputs.shape[1:3])
    shape = (1, (height - 1) // 8 + 1, (width - 1) // 8 + 1, 3)
    cells = np.random.default_rng(1).normal(0, 10, shape).astype(np.float32)
    zoomed = tf.raw_ops.ResizeBilinear(images=cells, size=[height, width], align_corners=True)
    cut = zoomed[:, : size[0], : size[1]]
    expected = tf.image.resize(zoomed, size) if mode == "warp" else cut
    found = geometry.from_network(cells, tf.constant(size), config)
    assert found.shape == (1, *size, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_way_back_by_hand():
    cells = np.float32([[0, 8], [16, 24]])[None, ..., None]
    found = geometry.from_network(cells, tf.constant([9, 3]), network("crop"))[0, ..., 0]
    np.testing.assert_array_equal(found[:, 0], 2 * np.arange(9))
    np.testing.assert_array_equal(found[4], [8, 9, 10])
    # Warped to 9 pixels: pixel centres -.25, .25, .75 … of the input, cut at its ends, an eighth.
    wide = geometry.from_network(cells, tf.constant([9, 18]), network("warp", 9))[0, ..., 0]
    np.testing.assert_allclose(wide[0], np.clip((np.arange(18) + 0.5) / 2 - 0.5, 0, 8))
    np.testing.assert_array_equal(wide[:, 0], 2 * np.arange(9))


@pytest.mark.parametrize("mode", ["crop", "warp"])
def test_classes_and_pictures_alone_are_as_together(mode):
    """Bit for bit: a mask may leave classes out, and a batch is as good as one."""
    cells = np.random.default_rng(2).normal(0, 10, (3, 5, 5, 7)).astype(np.float32)
    whole = geometry.from_network(cells, tf.constant([37, 33]), network(mode)).numpy()
    for picture, classes in ((0, [2]), (2, [0, 3, 6])):
        part = cells[picture : picture + 1][..., classes]
        found = geometry.from_network(part, tf.constant([37, 33]), network(mode))
        np.testing.assert_array_equal(found[0], whole[picture][..., classes])


def test_limited_pictures():
    image = pictures(40, 60)
    assert geometry.limited(image, 600).shape == (1, 20, 30, 3)
    assert geometry.limited(image, 600).dtype == tf.uint8
    blurred = tf.image.resize(tf.cast(image, tf.float32), [20, 30], antialias=True)
    np.testing.assert_array_equal(geometry.limited(image, 600), np.rint(blurred))
    for limit in (2400, 2401, NO_LIMIT):
        np.testing.assert_array_equal(geometry.limited(image, limit), image)
    assert geometry.limited(pictures(1, 5000), 4096).shape == (1, 1, 4525, 3)
    assert geometry.to_network(image, network("crop"), 600).shape == (1, 25, 33, 3)


@pytest.mark.parametrize("limit", [4096, 5000, 123_457])
def test_a_limited_area_fits_and_is_its_own(limit):
    for height, width in ((64, 65), (4000, 6000), (375, 500), (3, 90_001)):
        area = geometry.limited_area(tf.constant([height, width]), limit).numpy()
        assert area.prod() <= limit or min(area) == 1
        again = geometry.limited_area(tf.constant(area), limit)
        if area.prod() <= limit:
            np.testing.assert_array_equal(again, area)


def test_the_limit_does_not_reach_what_is_warped():
    """Training warps whole pictures too."""
    image = pictures(40, 60)
    found = geometry.to_network(image, network("warp"), 600)
    np.testing.assert_array_equal(found, geometry.to_network(image, network("warp"), NO_LIMIT))


VIEWS = [geometry.View(scale, mirrored) for scale in (0.5, 1.0, 1.5) for mirrored in (False, True)]


@pytest.mark.parametrize("mode", ["crop", "warp"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("limit", [NO_LIMIT, 100 * 120])
def test_the_cells_of_a_view_lie_where_its_pixels_are(mode, view, limit):
    """Of a picture that brightens evenly, cells that show their pixel give the picture back."""
    rows, columns = np.mgrid[:90, :110]
    picture = np.stack([rows, columns, rows + columns], -1).astype(np.uint8)
    config = network(mode, 121)
    inputs = geometry.to_network(picture[None], config, limit, view)
    assert (np.array(inputs.shape[1:3]) % 8 == 1).all()
    if mode == "crop" and view.scale > 1 and limit < NO_LIMIT:
        assert inputs.shape[1] * inputs.shape[2] < 1.2 * limit  # padded
    places = geometry.view_positions(picture.shape[:2], config, limit, view)
    found = cells.interpolate(inputs[0, ::8, ::8].numpy(), *(place.numpy() for place in places))
    assert found.shape == picture.shape
    inside = np.s_[8:-20, 20:-20]  # resizing clips at the borders, and padding is no picture
    np.testing.assert_allclose(found[inside], picture[inside], atol=0.6)


def test_the_plain_view_is_what_training_sees():
    for mode in ("crop", "warp"):
        places = geometry.view_positions((20, 41), network(mode), NO_LIMIT, geometry.PLAIN)
        for found, length in zip(places, (20, 41), strict=True):
            np.testing.assert_array_equal(found, geometry.cell_positions(length, network(mode)))
    assert geometry.to_network(pictures(20, 41), network("warp"), NO_LIMIT,
                               geometry.View(2)).shape[1:3] == (65, 65)  # fmt: skip


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [((90, 60), 30, (30, 20)), ((60, 90), 89, (59, 89)), ((60, 90), 90, (60, 90)),
     ((60, 90), 0, (60, 90)), ((1, 500), 50, (1, 50))],
)  # fmt: skip
def test_within_a_side(size, max_side, expected):
    image = tf.constant(pictures(*size)[0])
    found = geometry.within(image, max_side)
    assert found.dtype == tf.uint8 and tuple(found.shape) == (*expected, 3)
    if expected == size:
        np.testing.assert_array_equal(found, image)
