"""Metrics against values worked out by hand, and the properties they must have."""

import json

import numpy as np
import pytest

from aepsl_tf.classes import VOID
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation.metrics import EXAMPLES, Confusion, Saliency, object_shares

NAMES = ("background", "cat", "dog")


def results(truth, prediction, names=NAMES):
    confusion = Confusion(len(names))
    confusion.add(np.array(truth), np.array(prediction))
    return confusion.results(names)


def random_masks(seed=0, classes=4):
    rng = np.random.default_rng(seed)
    ids = np.array([*range(classes), VOID], np.uint8)
    return rng.choice(ids, (9, 11)), rng.choice(ids, (9, 11))


def confusion_matrix(truth, prediction, num_classes):
    """The labelled part of what is counted."""
    confusion = Confusion(num_classes)
    confusion.add(truth, prediction)
    return confusion.counts[:, :-1]


def test_confusion_by_hand():
    truth = np.array([[0, 0], [1, 1]], np.uint8)
    prediction = np.array([[0, 1], [1, 1]], np.uint8)
    matrix = confusion_matrix(truth, prediction, 2)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1], [0, 2]]


def test_void_of_either_leaves_the_confusion():
    truth = np.array([[0, VOID], [1, 1]], np.uint8)
    prediction = np.array([[VOID, 1], [1, 0]], np.uint8)
    assert confusion_matrix(truth, prediction, 2).tolist() == [[0, 0], [1, 1]]


def test_results_by_hand():
    # background: hit 1, missed 1, so 1/2; cat: hits 2, false 1, so 2/3; no dog anywhere.
    found = results([[0, 0], [1, 1]], [[0, 1], [1, 1]])
    assert found["iou"] == {"background": 1 / 2, "cat": 2 / 3, "dog": None}
    assert found["miou"] == pytest.approx(7 / 12)
    assert found["miou_void_wrong"] == found["miou"]
    assert found["pixel_accuracy"] == 3 / 4
    assert found["labelled_share"] == 1
    assert found["confusion"] == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert found["images"] == 1


def test_unlabelled_pixels_by_hand():
    # Labelled: one hit each, cat also takes one background pixel. Two of five are unlabelled.
    found = results([[0, 0, 1, 1, 2, VOID]], [[0, 1, 1, VOID, VOID, VOID]])
    assert found["iou"] == {"background": 1 / 2, "cat": 1 / 2, "dog": None}
    assert found["miou"] == 1 / 2
    assert found["pixel_accuracy"] == 2 / 3
    assert found["labelled_share"] == 3 / 5
    # Misses now: background 1/2, cat 1/3, dog 0.
    assert found["miou_void_wrong"] == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)


def test_a_class_only_predicted_counts_as_zero():
    assert results([[0, 0]], [[0, 2]])["iou"] == {"background": 1 / 2, "cat": None, "dog": 0}


def test_nothing_counted_is_none():
    for found in (Confusion(3).results(NAMES), results([[VOID]], [[1]])):
        keys = ("miou", "pixel_accuracy", "labelled_share", "miou_void_wrong")
        assert [found[key] for key in keys] == [None] * 4


def test_perfect_prediction_is_one():
    truth, _ = random_masks()
    found = results(truth, np.where(truth == VOID, 0, truth), "abcd")
    assert set(found["iou"].values()) == {1.0}
    assert found["miou"] == found["miou_void_wrong"] == found["pixel_accuracy"] == 1


def test_swapping_truth_and_prediction_transposes():
    truth, prediction = random_masks()
    np.testing.assert_array_equal(
        confusion_matrix(truth, prediction, 4), confusion_matrix(prediction, truth, 4).T
    )


def test_renaming_classes_or_moving_pixels_keeps_the_metrics():
    truth, prediction = random_masks()
    reference = results(truth, prediction, "abcd")
    ids = np.arange(256)
    ids[:4] = [2, 0, 3, 1]
    renamed = results(ids[truth], ids[prediction], "bdac")  # new id 0 is b, once id 1
    order = np.random.default_rng(1).permutation(truth.size)
    moved = results(truth.ravel()[order], prediction.ravel()[order], "abcd")
    assert renamed["iou"] == reference["iou"] == moved["iou"]
    for key in ("miou", "miou_void_wrong", "pixel_accuracy", "labelled_share"):
        assert renamed[key] == pytest.approx(reference[key])
        assert moved[key] == reference[key]


def test_pixels_are_summed_over_images_before_dividing():
    pairs = [random_masks(seed) for seed in range(3)]
    confusion = Confusion(4)
    for truth, prediction in pairs:
        confusion.add(truth, prediction, "some id")
    truths, predictions = (np.concatenate(masks) for masks in zip(*pairs, strict=True))
    whole = results(truths, predictions, "abcd")
    own = {"images": 3, "worst": [], "best": []}  # of images apart
    assert confusion.results("abcd") | {"worst": [], "best": []} == whole | own


def test_results_survive_json():
    truth, prediction = random_masks()
    found = results(truth, prediction, "abcd")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_254_classes_fit_below_void():
    truth = np.array([[254, 0]], np.uint8)
    assert confusion_matrix(truth, truth, 255)[254, 254] == 1


def test_bad_input_is_told():
    good = np.zeros((2, 2), np.uint8)
    confusion = Confusion(3)
    with pytest.raises(
        InputError, match=r"image 2007_1: the prediction holds class id 3, .*0\.\.2"
    ):
        confusion.add(good, good + 3, "2007_1")
    with pytest.raises(InputError, match=r"the truth holds class id 9.*255 \(void\)"):
        confusion_matrix(good + 9, good, 3)
    with pytest.raises(InputError, match="class id -1"):
        confusion_matrix(good, good.astype(int) - 1, 3)
    with pytest.raises(InputError, match=r"image a: the prediction \[2, 1\] .*\[2, 2\]"):
        confusion.add(good, good[:, :1], "a")
    assert confusion.images == 0
    assert not confusion.counts.any()


# ------------------------------------------------------------------------------------ saliency


def saliency_results(*images):
    """Results of (saliency in 0..255, objects, counted) triples of short lists."""
    scores = Saliency()
    for saliency, objects, counted in images:
        scores.add(np.uint8([saliency]), np.array([objects], bool), np.array([counted], bool))
    return scores.results()


def test_saliency_by_hand():
    # 10 and 20 of 255 lie below .12 (30.6), 10 alone below .06 (15.3); the last pixel is void.
    found = saliency_results(([255, 51, 10, 20, 0], [1, 1, 0, 1, 1], [1, 1, 1, 1, 0]))
    assert found["mae"] == pytest.approx((0 + 204 + 10 + 235) / 255 / 4)
    assert found["background_precision"] == {"0.06": 1, "0.12": 1 / 2}
    assert found["background_recall"] == {"0.06": 1, "0.12": 1}
    # Best at 20: three found, all object. F = 1.3 · 1 · 1 / (.3 + 1).
    assert found["max_f"] == pytest.approx(1)
    assert (found["images"], found["without_object"]) == (1, 0)


def test_max_f_by_hand():
    # Down to 200: precision 1, recall ½. Down to 100: precision ⅔, recall 1.
    found = saliency_results(([200, 150, 100, 0], [1, 0, 1, 0], [1, 1, 1, 1]))
    assert found["max_f"] == pytest.approx(max(1.3 * 0.5 / 0.8, 1.3 * (2 / 3) / (0.3 * 2 / 3 + 1)))


def test_saliency_means_over_images_and_pools_background():
    one = ([255, 0], [1, 0], [1, 1])
    other = ([0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1])
    found = saliency_results(one, other)
    assert found["mae"] == pytest.approx((0 + 3 / 4) / 2)
    assert found["background_precision"]["0.12"] == 2 / 5
    assert found["background_recall"]["0.12"] == 1


def test_images_without_an_object_are_left_out():
    one = ([255, 0], [1, 0], [1, 1])
    empty = ([255, 255], [0, 0], [1, 1])
    void = ([255, 255], [1, 0], [0, 1])
    with_both = saliency_results(one, empty, void)
    assert with_both["without_object"] == 2
    assert with_both | {"without_object": 0} == saliency_results(one)
    nothing = saliency_results(empty)
    assert nothing["images"] == 0 and nothing["mae"] is None


def test_saliency_survives_json():
    found = saliency_results(([255, 200], [1, 1], [1, 1]))
    assert found["background_precision"]["0.06"] is None  # nothing lies below
    assert json.loads(json.dumps(found)) == found


def test_object_shares_by_hand():
    confusion = Confusion(3)
    confusion.add(np.array([[0, 1, 2, 255]]), np.array([[1, 1, 0, 2]]))
    confusion.add(np.array([[0, 0]]), np.array([[0, 255]]))  # what is unlabelled does not count
    shares = object_shares(confusion.results(["background", "a", "b"])["confusion"])
    assert shares == [0.5, 0.5]
    assert object_shares(np.zeros((3, 3), int)) == [0.0, 0.0]


def test_the_best_and_the_worst_images_by_hand():
    """Mean IoU of an image's own objects; one without any is neither."""
    confusion = Confusion(3)
    truth = np.uint8([[1, 1, 2, 0]])
    for id_, prediction in (("half", [[1, 0, 2, 0]]), ("whole", truth), ("none", [[0, 0, 0, 0]]),
                            ("unlabelled", [[1, 255, 255, 0]])):  # fmt: skip
        confusion.add(truth, np.uint8(prediction), id_)
    confusion.add(np.uint8([[0, 0, 255, 0]]), np.uint8([[1, 1, 1, 1]]), "background")
    found = confusion.results(["background", "a", "b"])
    expected = [["none", 0.0, 2], ["unlabelled", 0.25, 3], ["half", 0.75, 0], ["whole", 1.0, 1]]
    assert found["worst"] == expected
    assert found["best"] == found["worst"][::-1]


def test_only_so_many_are_named():
    confusion = Confusion(2)
    for i in range(30):
        prediction = np.zeros((1, 40), np.uint8)
        prediction[0, : i + 1] = 1
        confusion.add(np.ones((1, 40), np.uint8), prediction, f"i{i}")
    found = confusion.results(["background", "a"])
    assert [id_ for id_, *_ in found["worst"]] == [f"i{i}" for i in range(EXAMPLES)]
    assert [id_ for id_, *_ in found["best"]] == [f"i{29 - i}" for i in range(EXAMPLES)]
