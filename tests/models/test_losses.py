"""The paper's losses against values worked out by hand, and where their gradients must vanish."""

import math

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf.classes import VOID
from aepsl_tf.models import losses

LOGITS = np.array([[[[0.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [1.0, 1.0]]]], np.float32)


def gradient(logits, mask):
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = losses.segmentation_loss(logits, mask)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


def test_squared_label_loss_softmax_by_hand():
    labels = tf.constant([[1.0, 0.0, 1.0]])
    logits = tf.math.log([[1.0, 2.0, 1.0]])  # softmax 1/4, 1/2, 1/4
    targets = losses.label_targets(labels, "softmax")
    np.testing.assert_allclose(targets, [[0.5, 0, 0.5]])
    loss = losses.squared_label_loss(targets, losses.label_scores(logits, "softmax"))
    np.testing.assert_allclose(loss, [1 / 16 + 1 / 4 + 1 / 16], rtol=1e-6)


def test_tag_score_by_hand():
    labels = tf.constant([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    scores = tf.constant([[0.9, 0.8, 0.2], [0.4, 0.3, 0.3], [0.1, 0.25, 0.2]])
    sigmoid = losses.tag_score(losses.label_targets(labels, "sigmoid"), scores)
    np.testing.assert_allclose(sigmoid, [(0.9 + 0.2) / 2, 0.3, 0.75], rtol=1e-6)
    # Two tags: each should have half; one that takes more does not make up for the other.
    softmax = losses.tag_score(losses.label_targets(labels, "softmax"), scores)
    np.testing.assert_allclose(softmax, [(1 + 0.4) / 2, 0.3, 0.75], rtol=1e-6)


def test_squared_label_loss_sigmoid_by_hand():
    labels = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    logits = tf.constant([[0.0, math.log(3)], [-math.log(3), 0.0]])  # 1/2, 3/4; 1/4, 1/2
    targets = losses.label_targets(labels, "sigmoid")
    np.testing.assert_array_equal(targets, labels)
    loss = losses.squared_label_loss(targets, losses.label_scores(logits, "sigmoid"))
    np.testing.assert_allclose(loss, [1 / 4 + 9 / 16, 1 / 16 + 1 / 4], rtol=1e-6)


def test_a_lost_class_is_called_back_by_the_cross_entropy_alone():
    """A score that went to 0 for all pictures: the square of its error does not pull any more."""
    labels, pull = tf.constant([[0.0, 1.0]]), {}
    for reading in ("softmax", "sigmoid", "cross_entropy"):
        logits = tf.Variable([[20.0, -20.0]])
        with tf.GradientTape() as tape:
            loss = losses.label_loss(labels, logits, reading)
        pull[reading] = tape.gradient(loss, logits).numpy()[0]
    np.testing.assert_allclose(pull["cross_entropy"], [1, -1], rtol=1e-6)
    assert np.abs(pull["sigmoid"]).max() < 1e-7 and np.abs(pull["softmax"]).max() < 1e-7


def test_targets_of_an_untagged_image_are_zero():
    np.testing.assert_array_equal(losses.label_targets(tf.zeros([1, 3]), "softmax"), [[0, 0, 0]])


def test_segmentation_loss_by_hand():
    mask = np.array([[[0, 0], [1, VOID]]], np.uint8)
    loss, _ = gradient(LOGITS, mask)
    parts = [math.log(2), math.log(1 + math.exp(-2)), math.log(1 + math.exp(-3))]
    np.testing.assert_allclose(loss, [sum(parts) / 3], rtol=1e-6)


def test_segmentation_gradient_by_hand_and_none_at_void():
    mask = np.array([[[0, VOID], [1, VOID]]], np.uint8)
    _, grad = gradient(LOGITS, mask)
    np.testing.assert_allclose(grad[0, 0, 0], [-0.25, 0.25], rtol=1e-6)  # (p − 1)/2 labelled
    assert np.all(grad[0, 1, 0] != 0)
    np.testing.assert_array_equal(grad[0, :, 1], 0)


def test_image_without_a_labelled_pixel_costs_nothing():
    logits = np.concatenate([LOGITS, LOGITS])
    mask = np.array([[[VOID] * 2] * 2, [[0, 1], [0, 1]]], np.uint8)
    loss, grad = gradient(logits, mask)
    assert loss[0] == 0 and loss[1] > 0
    np.testing.assert_array_equal(grad[0], 0)
    assert np.isfinite(grad).all() and np.abs(grad[1]).max() > 0


def test_sums_give_per_image_and_batch_norm():
    logits = np.concatenate([LOGITS, LOGITS])
    mask = np.array([[[0, VOID], [VOID, VOID]], [[0, 0], [1, 1]]], np.uint8)
    total, labelled = losses.segmentation_loss_sums(logits, mask)
    np.testing.assert_array_equal(labelled, [1, 4])
    second = 2 * math.log(2) + math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-3))
    np.testing.assert_allclose(total, [math.log(2), second], rtol=1e-6)
    loss = losses.segmentation_loss(logits, mask)
    np.testing.assert_allclose(loss, [math.log(2), second / 4], rtol=1e-6)


def test_prohibitive_mask_by_hand():
    #                        bg   1    2
    f = np.array([[[[0.3, 0.6, 0.1], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1]]]], np.float32)
    v, tags = np.array([[0.9, 0.5]], np.float32), np.array([[1.0, 0.0]], np.float32)
    mask = losses.prohibitive_mask(np.log(f), v, tags)
    np.testing.assert_array_equal(mask, [[[1, VOID, 0]]])  # class 2 wins the second, untagged
    v = np.array([[0.4, 0.1]], np.float32)  # 0.24 < 0.3 background; 0.07 < 0.08 < 0.1 background
    np.testing.assert_array_equal(losses.prohibitive_mask(np.log(f), v, tags), [[[0, 0, 0]]])


def test_prohibitive_mask_never_shows_a_class_with_score_zero():
    rng = np.random.default_rng(0)
    f = rng.dirichlet([1] * 4, (2, 8, 8)).astype(np.float32)
    v = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    mask = losses.prohibitive_mask(np.log(f), v, np.ones([2, 3], np.float32)).numpy()
    assert set(np.unique(mask[0])) == {0, 1, 3}
    assert set(np.unique(mask[1])) == {0, 2, 3}


def test_a_class_far_ahead_and_prohibited_leaves_the_others_their_order():
    """In products of float32 probabilities they would all be 0, and the first one the largest."""
    logits = np.float32([[[[0, 200, 5]]]])
    mask = losses.prohibitive_mask(logits, np.float32([[0, 1]]), np.ones([1, 2], np.float32))
    np.testing.assert_array_equal(mask, [[[2]]])


def test_prohibitive_mask_is_void_outside_the_tags_per_image():
    f = np.full([2, 1, 1, 3], 0.1, np.float32)
    f[..., 2] = 0.8
    tags = np.array([[1, 0], [0, 1]], np.float32)
    mask = losses.prohibitive_mask(np.log(f), np.ones([2, 2], np.float32), tags)
    np.testing.assert_array_equal(np.ravel(mask), [VOID, 2])


def test_no_gradient_through_the_online_mask():
    logits, scores = tf.Variable(LOGITS), tf.Variable([[0.8]])
    with tf.GradientTape(persistent=True) as tape:
        online = losses.prohibitive_mask(logits, scores, tf.ones([1, 1]))
        loss = losses.segmentation_loss(logits, online)
    assert tape.gradient(loss, scores) is None
    grad = tape.gradient(loss, logits)
    _, constant = gradient(LOGITS, online.numpy())
    np.testing.assert_array_equal(grad, constant)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_losses_are_float32(dtype):
    logits = tf.cast(LOGITS, dtype)
    assert losses.segmentation_loss(logits, np.zeros([1, 2, 2], np.uint8)).dtype == tf.float32
    assert losses.label_scores(logits[:, 0, 0], "softmax").dtype == tf.float32
