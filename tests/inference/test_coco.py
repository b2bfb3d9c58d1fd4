"""COCO's run lengths against a decoder that was written from their description."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from aepsl_tf.classes import VOID
from aepsl_tf.inference import coco


def decoded(segmentation):
    """bool `[H, W]`: characters to numbers, differences to lengths, lengths to columns."""
    numbers, shift, number = [], 0, 0
    for character in segmentation["counts"]:
        code = ord(character) - 48
        assert 0 <= code < 64
        number += (code % 32) << shift
        shift += 5
        if code < 32:  # the last piece; its highest bit is the sign
            numbers.append(number - (1 << shift) if code >= 16 else number)
            shift = number = 0
    assert shift == 0
    lengths = []
    for i, number in enumerate(numbers):
        lengths.append(number + (lengths[i - 2] if i > 2 else 0))
    height, width = segmentation["size"]
    pixels = [i % 2 == 1 for i, length in enumerate(lengths) for _ in range(length)]
    return np.array(pixels, bool).reshape(width, height).T


def check(mask):
    found = coco.annotations(mask)
    assert [one["category_id"] for one in found] == sorted(set(mask.ravel()) - {0, VOID})
    for one in found:
        own = mask == one["category_id"]
        np.testing.assert_array_equal(decoded(one["segmentation"]), own)
        rows, columns = np.nonzero(own)
        assert one["area"] == own.sum() and one["iscrowd"] == 0
        left, top, width, height = one["bbox"]
        assert (left, top) == (columns.min(), rows.min())
        assert (left + width - 1, top + height - 1) == (columns.max(), rows.max())


@settings(max_examples=200, deadline=None)
@given(
    arrays(
        np.uint8,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.sampled_from([0, 1, 2, 7, VOID]),
    )
)
def test_every_class_is_read_back(mask):
    check(mask)


def test_long_runs_and_long_differences():
    mask = np.zeros((700, 900), np.uint8)
    mask[5:690, 37:800] = 3
    mask[0, 0] = mask[-1, -1] = 3
    mask[300, 300:320:2] = 0
    check(mask)


def test_the_text_is_pycocotools_own():
    """As its encoder, 2.0.11, wrote these masks, a disk and a corner."""
    y, x = np.mgrid[:40, :50]
    mask = ((y - 20) ** 2 + (x - 30) ** 2 < 150).astype(np.uint8)
    mask += 2 * ((y < 9) & (x < 12)).astype(np.uint8)
    disk, corner = (one["segmentation"]["counts"] for one in coco.annotations(mask))
    assert disk == "Rg05P16K4M2N2N2O0O2O000O2O00000001N10001N101N2N2N3L5JY8"
    assert corner == "09o0000000000000000000000`_1"


def test_run_lengths_by_hand():
    mask = np.uint8([[1, 0, 2], [1, 1, 255]])
    assert coco.run_lengths(mask) == {1: [0, 2, 1, 1, 2], 2: [4, 1, 1]}
    assert coco.run_lengths(np.ones((1, 2), np.uint8)) == {1: [0, 2]}


def test_document():
    masks = [np.uint8([[0, 2]]), np.uint8([[0, 0]]), np.uint8([[1, 2]])]
    rows = [(f"{i}.jpg", mask.shape, coco.annotations(mask)) for i, mask in enumerate(masks)]
    found = coco.document(rows, ("background", "cat", "dog"))
    assert found["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert found["images"][2] == {"id": 3, "file_name": "2.jpg", "height": 1, "width": 2}
    pairs = [(one["id"], one["image_id"], one["category_id"]) for one in found["annotations"]]
    assert pairs == [(1, 1, 2), (2, 3, 1), (3, 3, 2)]
