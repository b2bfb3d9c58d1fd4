"""Every transform eagerly and inside tf.data."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aepsl_tf.classes import VOID
from aepsl_tf.data import encoding, transforms


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def coordinates(height, width):
    """A picture that tells each pixel's place: R is the row, G the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)


def in_tf_data(function, *values):
    """The function's result on one element of a dataset."""
    data = tf.data.Dataset.from_tensors(values).map(lambda *v: function(*v))
    return next(iter(data))


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (17, 23), (5, 200), (64, 48)])
def test_workers_without_tensorflow_see_the_same_pixels(quality, subsampling, progressive, size):
    file = io.BytesIO()
    Image.fromarray(picture(*size)).save(
        file, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive
    )
    for encoded in (file.getvalue(), encoding.rgb_png(picture(*size))):
        pixels = encoding.rgb_pixels(encoded)
        np.testing.assert_array_equal(pixels, transforms.decode_image(encoded))


def test_decoding_inverts_the_encoders():
    image = picture(5, 7)
    np.testing.assert_array_equal(transforms.decode_image(encoding.rgb_png(image)), image)
    mask = np.array([[0, 1, 254], [255, 7, 0]], np.uint8)
    np.testing.assert_array_equal(transforms.decode_mask(encoding.grey_png(mask)), mask)
    region = mask > 3
    decoded = transforms.decode_mask(encoding.grey_png(region)).numpy()
    np.testing.assert_array_equal(decoded > 0, region)


@pytest.mark.parametrize("size", [9, 17])
def test_transforms_work_inside_tf_data_as_eagerly(size):
    image, mask = picture(12, 15), picture(12, 15, 1)[..., 0]

    def chain(image, mask):
        cropped = transforms.mirror(transforms.crop(image, size, [3, 4]), True)
        its_mask = transforms.mirror(transforms.crop_mask(mask, size, [3, 4]), True)
        warped, warped_mask = transforms.warp(image, size), transforms.warp_mask(mask, size)
        cells, warped_cells = (transforms.network_mask(m) for m in (its_mask, warped_mask))
        return cropped, warped, cells, warped_cells, transforms.multi_hot(tf.constant([2]), 3)

    eager = chain(tf.constant(image), tf.constant(mask))
    graph = in_tf_data(chain, image, mask)
    assert eager[0].shape == eager[1].shape == (size, size, 3)
    for one, other in zip(eager, graph, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("draws", [(0, 0), (3, 7), (11, 21), (12, 22), (2**30 - 1, 2**30 - 2)])
def test_crop_is_one_piece_of_picture_and_mask(draws):
    image = coordinates(20, 30)
    mask = (image[..., 0] * 8 + image[..., 1] % 8).astype(np.uint8)
    crop, its_mask = transforms.crop(image, 9, draws), transforms.crop_mask(mask, 9, draws)
    top, left = draws[0] % 12, draws[1] % 22  # the corners that leave room for 9 pixels
    np.testing.assert_allclose(crop, image[top : top + 9, left : left + 9], atol=1e-4)
    np.testing.assert_array_equal(its_mask, mask[top : top + 9, left : left + 9])
    assert its_mask.dtype == tf.uint8 and crop.dtype == tf.float32


def test_small_pictures_are_padded_with_the_mean_and_void():
    image, mask = picture(5, 12), np.ones((5, 12), np.uint8)
    crop, its_mask = transforms.crop(image, 9, [6, 5]), transforms.crop_mask(mask, 9, [6, 5])
    np.testing.assert_allclose(crop[5:], np.broadcast_to(transforms.INPUT_MEAN, (4, 9, 3)))
    np.testing.assert_allclose(crop[:5], image[:, 1:10], atol=1e-4)
    np.testing.assert_array_equal(its_mask[5:], VOID)
    np.testing.assert_array_equal(its_mask[:5], 1)


def test_mirror_turns_left_to_right():
    for whole in (picture(6, 9), picture(6, 9)[..., 0]):
        np.testing.assert_array_equal(transforms.mirror(whole, True), whole[:, ::-1])
        np.testing.assert_array_equal(transforms.mirror(whole, False), whole)


def test_erase_fills_the_region_only():
    image, region = picture(6, 5), np.eye(6, 5, dtype=bool)
    fill = tf.constant([9, 8, 7], tf.uint8)
    out = in_tf_data(lambda i, p: transforms.erase(i, p, fill), image, encoding.grey_png(region))
    np.testing.assert_array_equal(out.numpy()[~region], image[~region])
    np.testing.assert_array_equal(out.numpy()[region], [[9, 8, 7]] * 5)


def test_warp_leaves_a_picture_of_the_size_and_masks_keep_their_ids():
    image = picture(9, 9)
    np.testing.assert_array_equal(transforms.warp(image, 9), image)
    mask = np.array([[0, 200], [VOID, 3]], np.uint8)
    warped = transforms.warp_mask(mask, 4)
    np.testing.assert_array_equal(warped, np.repeat(np.repeat(mask, 2, 0), 2, 1))


def test_network_mask_is_every_eighth_pixel():
    mask = picture(33, 33)[..., 0]
    small = transforms.network_mask(mask)
    np.testing.assert_array_equal(small, mask[::8, ::8])
    assert small.shape == (5, 5)
    np.testing.assert_array_equal(transforms.network_mask(mask[None]), small[None])


def test_multi_hot():
    hot = transforms.multi_hot(tf.constant([3, 1, 3], tf.int64), 4)
    np.testing.assert_array_equal(hot, [1, 0, 1, 0])
    np.testing.assert_array_equal(transforms.multi_hot(tf.zeros([0], tf.int64), 2), [0, 0])


@pytest.mark.parametrize(("side", "padded"), [(33, 33), (34, 41), (40, 41), (9, 9), (1, 1)])
def test_pad_to_cells(side, padded):
    images = tf.cast(picture(side, 10), tf.float32)[None]
    out = transforms.pad_to_cells(images)
    assert out.shape == (1, padded, 17, 3)
    np.testing.assert_allclose(out[:, :side, :10], images, atol=1e-4)
    corner = out[0, :, 10:].numpy().reshape(-1, 3)
    np.testing.assert_allclose(corner, np.broadcast_to(transforms.INPUT_MEAN, corner.shape))
