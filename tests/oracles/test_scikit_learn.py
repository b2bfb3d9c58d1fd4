"""Evaluation against scikit-learn's, on masks like VOC's: 21 classes, few of them in an image."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from aepsl_tf.classes import VOID
from aepsl_tf.evaluation import metrics


def test_evaluation():
    rng = np.random.default_rng(0)
    confusion, truths, predictions = metrics.Confusion(21), [], []
    for _ in range(4):
        present = rng.choice(18, 4)  # so that some classes are nowhere
        truth = rng.choice([*present, VOID], [30, 40]).astype(np.uint8)
        other = rng.choice([*present, 18], truth.shape).astype(np.uint8)
        prediction = np.where((rng.random(truth.shape) < 0.7) & (truth != VOID), truth, other)
        confusion.add(truth, prediction)
        truths.append(truth[truth != VOID])
        predictions.append(prediction[truth != VOID])
    truth, prediction = np.concatenate(truths), np.concatenate(predictions)
    ours = confusion.results([str(c) for c in range(21)])

    np.testing.assert_array_equal(
        ours["confusion"], theirs.confusion_matrix(truth, prediction, labels=range(21))
    )
    assert ours["pixel_accuracy"] == pytest.approx(theirs.accuracy_score(truth, prediction))
    present = sorted({*truth, *prediction})
    assert 19 not in present  # scikit-learn calls it 0, the devkit leaves it out of the mean
    iou = theirs.jaccard_score(truth, prediction, labels=present, average=None)
    for c in range(21):
        found = ours["iou"][str(c)]
        assert found == (pytest.approx(iou[present.index(c)]) if c in present else None)
    assert ours["miou"] == pytest.approx(iou.mean())
    # An unlabelled prediction is a miss: to scikit-learn, a class that no truth has.
    hidden = np.where(rng.random(prediction.shape) < 0.2, VOID, prediction)
    partly = metrics.Confusion(21)
    partly.add(truth[None], hidden[None])
    labelled = hidden != VOID
    results = partly.results([str(c) for c in range(21)])
    wrong = theirs.jaccard_score(truth, hidden, labels=present, average=None)
    assert results["miou_void_wrong"] == pytest.approx(wrong.mean())
    seen = sorted({*truth[labelled], *hidden[labelled]})
    iou = theirs.jaccard_score(truth[labelled], hidden[labelled], labels=seen, average=None)
    assert results["miou"] == pytest.approx(iou.mean())
    assert results["labelled_share"] == pytest.approx(labelled.mean())
