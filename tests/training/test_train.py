"""What both training phases say at their end."""

import pytest

from aepsl_tf.training.train import rise, still_falling


def history(losses, **more):
    return [{"loss": loss, **more} for loss in losses]


@pytest.mark.parametrize(
    ("losses", "falls"),
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
def test_still_falling(losses, falls):
    assert still_falling(history(losses)) is falls


def test_the_online_mask_s_joining_is_no_rise():
    late = [*history([10, 9, 8, 7, 6]), {"loss": 8, "j_hat": 3}]
    assert still_falling(late) is True


@pytest.mark.parametrize(
    ("losses", "rose"),
    [
        ([1.26, 1.08, 1.39, 1.70], (1.26, 1.70)),  # fc7 died: what this is for
        ([2, 2], (2, 2)),
        ([2, 3, 1], None),
        ([3], None),  # one epoch has no course
    ],
)
def test_a_loss_that_did_not_fall_is_told(losses, rose):
    assert rise(history(losses)) == rose
    if rose:  # the online mask's joining is no rise
        *early, last = history(losses)
        assert rise([*early, {"loss": last["loss"], "j_hat": last["loss"]}]) is None
