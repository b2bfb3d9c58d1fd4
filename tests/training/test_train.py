"""What both training phases say at their end."""

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf.models import losses
from aepsl_tf.training.train import constant_loss, label_loss, still_falling


def history(course, **more):
    return [{"loss": loss, **more} for loss in course]


@pytest.mark.parametrize(
    ("course", "falls"),
    [
        ([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], True),  # evenly
        ([10, 2, 1.2, 1.1, 1.05, 1.02, 1.01, 1, 1, 1], False),  # flat
        ([10, 8, 6, 4, 2, 1.6, 1.5, 1.4, 1.3, 1], False),  # .3 + .1 of 9
        ([10, 8, 6, 4, 2, 1.9, 1.8, 1.6, 1.3, 1], True),  # .6 of 9
        ([1, 2, 3], False),  # it rose
        ([1, 3, 3, 3], False),  # and stayed there
        ([2, 2, 2], False),
        ([3], False),  # one epoch has no course
        ([3, 1], True),
    ],
)
def test_still_falling(course, falls):
    assert still_falling(history(course)) is falls


def test_the_online_mask_s_joining_is_no_rise():
    late = [*history([10, 9, 8, 7, 6]), {"loss": 8, "j_hat": 3}]
    assert still_falling(late) is True


@pytest.mark.parametrize("reading", ["sigmoid", "softmax", "cross_entropy"])
def test_the_loss_of_scores_that_are_the_same_for_all(reading):
    tags = [[1], [1, 3], [], [3], [2, 3]]
    labels = tf.constant([[float(c in own) for c in (1, 2, 3)] for own in tags])
    targets = losses.label_targets(labels, reading).numpy()
    found = constant_loss(iter(tags), 3, reading)

    def mean_loss(scores):
        if reading == "cross_entropy":
            logits = tf.constant(np.log(scores / (1 - scores))[None] * np.ones([5, 1]), tf.float32)
            return np.mean(losses.label_loss(labels, logits, reading))
        return np.mean(losses.squared_label_loss(targets, scores[None]))

    best = targets.mean(0)
    assert found == pytest.approx(mean_loss(best), abs=1e-6)
    for move in np.eye(3, dtype=np.float32) * 0.1:
        assert min(mean_loss(best + move), mean_loss(best - move)) > found
    assert constant_loss([], 3, reading) == 0
    assert constant_loss([[1, 2, 3]] * 7, 4, reading) == 0  # thirds do not add up to 1


def test_the_label_loss_of_a_classifier_and_of_a_segmenter():
    assert label_loss([{"loss": 2.0}, {"loss": 1.0}]) == 1
    assert label_loss([{"loss": 3.0, "j": 1.0, "label": 0.5}]) == 0.5
