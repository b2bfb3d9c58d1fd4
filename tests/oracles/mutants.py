"""Faults put into the code on purpose, and the test here that must fail with each.

A fault is a replacement in a function's source (what stands there, what shall stand there), or
a function that makes the faulty one from the right one.
"""

import collections
import inspect
import textwrap

import tensorflow as tf

from aepsl_tf.data import geometry, transforms
from aepsl_tf.evaluation import metrics
from aepsl_tf.inference import cells, crf, predictor
from aepsl_tf.mining import cam, erasing, pseudo_masks, regions
from aepsl_tf.models import backbones, classifier, losses, segmenter

Mutant = collections.namedtuple("Mutant", "module function test fault change")


def put_in(mutant, monkeypatch):
    """Replaces the mutant's function until the test is over."""
    *owner, name = mutant.function.split(".")
    owner = getattr(mutant.module, *owner) if owner else mutant.module
    right = getattr(owner, name)
    if callable(mutant.change):
        monkeypatch.setattr(owner, name, mutant.change(right))
        return
    old, new = mutant.change
    source = textwrap.dedent(inspect.getsource(right))
    if source.count(old) != 1:
        raise LookupError(f"{mutant.function} holds {old!r} {source.count(old)} times, not once")
    made = {}
    exec(source.replace(old, new), vars(mutant.module), made)
    monkeypatch.setattr(owner, name, made[name])


# Module, function, the test that must notice → fault → change.
_TABLE = {
    (losses, "segmentation_loss", "test_equations.test_j"): {
        "not divided": ("tf.math.divide_no_nan(total, labelled)", "total"),
        "divided by the batch's labelled pixels": (
            "divide_no_nan(total, labelled)", "divide_no_nan(total, tf.reduce_sum(labelled))"),
        "0/0 where an image has no labelled pixel": (
            "tf.math.divide_no_nan(total, labelled)", "total / labelled"),
    },
    (losses, "segmentation_loss_sums", "test_equations.test_j"): {
        "divided by all pixels": ("mask != VOID, tf", "mask >= 0, tf"),
        "void is background": ("tf.cast(mask, tf.int32)", "tf.cast(mask, tf.int32) % VOID"),
        "void costs as background, uncounted": ("tf.one_hot(mask,", "tf.one_hot(mask % VOID,"),
        "background counted, not charged": ("chosen * log_f", "(chosen * log_f)[..., 1:]"),
        "probabilities where logits belong": (
            "tf.cast(logits, tf.float32)", "tf.nn.softmax(logits)"),
    },
    (losses, "prohibitive_mask", "test_equations.test_online_mask"): {
        "the maximum without v": ("[ones, scores]", "[ones, tf.ones_like(scores)]"),
        "background weighed by a half": ("[ones, scores]", "[0.5 * ones, scores]"),
        "background weighed by the largest score": (
            "[ones, scores]", "[tf.reduce_max(scores, axis=-1, keepdims=True), scores]"),
        "v shifted by a class": ("[ones, scores]", "[scores, ones]"),
        "v squared": ("[ones, scores]", "[ones, scores**2]"),
        "the least in place of the largest": ("tf.argmax", "tf.argmin"),
    },
    (losses, "prohibitive_mask", "test_equations.test_j_of_the_online_mask"): {
        "classes outside O^seg stay": (
            "mask = tf.where(tf.gather(allowed, mask, batch_dims=1), mask, VOID)", "pass"),
        "classes outside O^seg become background": ("mask, VOID)", "mask, 0)"),
        "background outside O^seg": ("[ones, tf.cast", "[0 * ones, tf.cast"),
        "only the tags compete": ("[ones, scores]", "[ones, scores * labels]"),
    },
    (losses, "squared_label_loss", "test_equations.test_label_loss"): {
        "the mean over classes": ("tf.reduce_sum", "tf.reduce_mean"),
        "absolute": ("tf.square", "tf.abs"),
    },
    (losses, "label_loss", "test_equations.test_label_loss_of_logits"): {
        "the square of a cross-entropy": ('reading == "cross_entropy"', "False"),
        "the mean over classes": ("tf.reduce_sum", "tf.reduce_mean"),
        "0/1 tags for softmax": ("label_targets(labels, reading)", "labels"),
    },
    (losses, "label_targets", "test_equations.test_label_loss"): {
        "tags not divided by their sum": (
            "tf.math.divide_no_nan(labels, tf.reduce_sum(labels, axis=-1, keepdims=True))",
            "labels"),
    },
    (classifier, "Classifier.objective", "test_equations.test_objective_of_the_classifier"): {
        "the square whatever the reading": (
            'losses.label_loss(batch["labels"], logits, self.config.label_loss)',
            'losses.squared_label_loss(losses.label_targets(batch["labels"], '
            'self.config.label_loss), self.scores(logits))'),
        "summed over images": ('/ counts["images"]', ""),
    },
    (segmenter, "Segmenter.objective", "test_equations.test_objective"): {
        "the square whatever the reading": (
            'losses.label_loss(labels, outputs["label_logits"], config.label_loss)',
            'losses.squared_label_loss(targets, scores)'),
        "λ left out": ("config.classification_weight * ", ""),
        "the label loss left out": ('loss += config.classification_weight * parts["label"]',
                                    "pass"),
        "J(f, Ŝ) left out": ('loss += parts["j_hat"]', "pass"),
        "S in place of Ŝ": ("self._j(logits, online,", 'self._j(logits, batch["mask"],'),
    },
    (segmenter, "Segmenter._j", "test_equations.test_objective"): {
        "summed over images": (
            'segmentation_loss(logits, mask)) / counts["images"]',
            "segmentation_loss(logits, mask))"),
    },
    (cam, "class_activation_map", "test_equations.test_cam"): {
        "negative weights left out": (
            "tf.float32), class_weights", "tf.float32), tf.nn.relu(class_weights)"),
        "negative values left out": (
            "tf.cast(features, tf.float32)", "tf.nn.relu(tf.cast(features, tf.float32))"),
        "the largest product, not the sum": (
            'tf.einsum("bhwk,kc->bhwc", tf.cast(features, tf.float32), class_weights)',
            "tf.reduce_max(features[..., None] * class_weights, axis=-2)"),
        "rows and columns exchanged": ("->bhwc", "->bwhc"),
    },
    (geometry, "cell_positions", "test_equations.test_from_network"): {
        "corners not aligned": ("pixels / 8", "tf.maximum((pixels + 0.5) / 8 - 0.5, 0.0)"),
        "cells as if nothing was padded": (
            "pixels / 8", "pixels * float(-(-(int(length) - 1) // 8)) / max(int(length) - 1, 1)"),
    },
    (geometry, "cell_positions", "test_equations.test_from_warped"): {
        "corners not aligned": ("pixels / 8", "tf.maximum((pixels + 0.5) / 8 - 0.5, 0.0)"),
        "the picture's corners aligned with the input's": (
            "(pixels + 0.5) * (size / tf.cast(length, tf.float32)) - 0.5",
            "pixels * ((size - 1) / max(int(length) - 1, 1))"),
    },
    (geometry, "from_network", "test_equations.test_from_network"): {
        "height and width exchanged": ("height, width = tf", "width, height = tf"),
    },
    (geometry, "_interpolated", "test_equations.test_from_network"): {
        "the cell before, not between": ("before + share * (after - before)", "before"),
    },
    (erasing, "discriminative_region", "test_equations.test_region"): {
        "not less than δ": ("heatmap > threshold", "heatmap >= threshold"),
        "δ itself, no share of the largest value": ("threshold * peak", "threshold"),
        "a share of the mean": ("threshold * peak", "threshold * heatmap.mean()"),
        "a share of the range": (
            "threshold * peak", "heatmap.min() + threshold * (peak - heatmap.min())"),
        "the absolute value": ("(heatmap > threshold", "(np.abs(heatmap) > threshold"),
        "what is below δ": ("heatmap > threshold", "heatmap < threshold"),
    },
    (erasing, "discriminative_region", "test_equations.test_region_of_any_values"): {
        "the fraction in tenths": ("threshold * peak", "round(threshold, 1) * peak"),
    },
    (erasing, "discriminative_region", "test_equations.test_region_of_top_pixels"): {
        "the lowest pixels": ("np.argpartition(-heatmap", "np.argpartition(heatmap"),
        "the share rounded up": (
            "round(threshold * heatmap.size)", "int(np.ceil(threshold * heatmap.size))"),
        "one pixel less": ("[:count]]", "[: count - 1]]"),
    },
    (regions, "union", "test_equations.test_algorithm_1"): {
        "the intersection of the steps": ("np.any", "np.all"),
        "the last step alone": ("for row in rows)", "for row in rows[-1:])"),
    },
    (transforms, "erase", "test_equations.test_algorithm_1"): {
        "everything but the region": ("> 0", "== 0"),
        "filled with black": ("tf.cast(fill, image.dtype)", "tf.zeros_like(image)"),
        "filled with the picture's own mean": (
            "tf.cast(fill, image.dtype)",
            "tf.cast(tf.reduce_mean(tf.cast(image, tf.float32), [0, 1]), image.dtype)"),
        "nothing erased": ("erased[..., None]", "erased[..., None] & False"),
    },
    (pseudo_masks, "combine", "test_equations.test_fusion"): {
        "background at the threshold": ("saliency < background", "saliency <= background"),
        "rule 1 left out: the last class wins": ("claims == 1", "claims >= 1"),
        "rule 1 left out: conflicts are background": (
            "return mask", "mask[claims > 1] = BACKGROUND; return mask"),
        "rule 2 left out: the region beats the background": (" & ~low", ""),
        "rule 2 left out: the background beats the region": ("low & (claims == 0)", "low"),
        "rule 3 left out: the rest is background": (
            "np.full(saliency.shape, VOID, np.uint8)", "np.zeros(saliency.shape, np.uint8)"),
        "no background": ("= BACKGROUND", "= VOID"),
    },
    (pseudo_masks, "background_threshold", "test_equations.test_background_threshold"): {
        "only where every tag is indoor": ("any(", "all("),
        "indoor and outdoor exchanged": ("if indoor", "if not indoor"),
        "the class after the tag": ("label - 1", "label % 3"),
    },
    (predictor, "class_weights", "test_equations.test_prohibition"): {
        "p itself prohibited": ("scores < p", "scores <= p"),
        "nothing prohibited": ("scores < p", "scores < 0"),
        "what is above p prohibited": ("scores < p", "scores >= p"),
        "what is kept does not weigh": ("lambda: scores", "lambda: tf.ones_like(scores)"),
        "p subtracted": ("lambda: scores", "lambda: scores - p"),
    },
    (cells, "prohibit", "test_equations.test_prohibition"): {
        "not renormalised": ("weighed / weighed.sum(-1, keepdims=True)", "weighed"),
        "weights where their logarithms belong": ("np.log(weights.astype(np.float64))", "weights"),
    },
    (losses, "weigh", "test_equations.test_online_mask"): {
        "weights where their logarithms belong": (
            "tf.math.log(tf.cast(weights, precision))", "weights"),
        "added to all classes alike": (
            "log_weights[..., None, None, :]",
            "tf.reduce_max(log_weights, -1)[:, None, None, None]"),
    },
    (metrics, "_iou", "test_equations.test_miou"): {
        "hits counted twice in the union": (" - hits", ""),
        "recall": ("truths + confusion.sum(axis=0) - hits", "truths"),
        "precision": ("truths + confusion.sum(axis=0) - hits", "confusion.sum(axis=0)"),
    },
    (metrics, "_count", "test_equations.test_miou"): {
        "void counted as background": (
            "counted = truth != VOID",
            "truth = np.where(truth == VOID, 0, truth); counted = truth != VOID"),
        "unlabelled predictions counted as background": ("== VOID] = num_classes", "== VOID] = 0"),
    },
    (metrics, "_mean", "test_equations.test_miou"): {
        "absent classes count as 0": (
            "sum(present) / len(present) if present", "sum(present) / len(values) if present"),
        "background left out": (
            "if value is not None]", "if value is not None][1:]"),
    },
    (metrics, "Confusion.results", "test_equations.test_miou"): {
        "unlabelled pixels always wrong": (
            "iou = _iou(confusion, confusion.sum(axis=1))",
            "iou = _iou(confusion, self.counts.sum(axis=1))"),
        "unlabelled pixels never wrong": (
            "_mean(_iou(confusion, self.counts.sum(axis=1)))", "_mean(iou)"),
    },
    (metrics, "_count", "test_scikit_learn.test_evaluation"): {
        "rows and columns exchanged": (
            "rows * shape[1] + columns", "columns % num_classes * shape[1] + rows"),
    },
    (metrics, "Confusion.results", "test_scikit_learn.test_evaluation"): {
        "the accuracy of all pixels": (
            "np.trace(confusion), labelled", "np.trace(confusion), self.counts.size"),
        "the mean of the classes' accuracies": (
            "_share(np.trace(confusion), labelled)",
            "_mean([_share(h, n) for h, n in zip(np.diag(confusion), confusion.sum(axis=1))])"),
    },
    (crf, "dense_crf", "test_pydensecrf.test_crf"): {
        "probabilities for energies": (
            "-np.log(np.maximum(probabilities[:, :, kept], FLOOR))", "-probabilities[:, :, kept]"),
        "one iteration less": ("inference(iterations)", "inference(iterations - 1)"),
        "one weight for both kernels": ("compat=bilateral_weight", "compat=gaussian_weight"),
        "position and colour exchanged": (
            "sxy=bilateral_sxy,\n        srgb=bilateral_srgb",
            "sxy=bilateral_srgb,\n        srgb=bilateral_sxy"),
        "no smoothness kernel": ("compat=gaussian_weight", "compat=0"),
        "ids of the kept classes lost": ("kept[winner]", "winner"),
        "classes that peak below .9 left out": ("peaks > NEGLIGIBLE", "peaks > 0.9"),
    },
    (metrics, "Confusion.add", "test_equations.test_miou"): {
        "the last image alone": ("self.counts += ", "self.counts = "),
    },
    (backbones, "_blocks", "test_torch.test_classifier"): {
        "conv5 not dilated": ("2 if wide and number == 5 else 1", "1"),
        "pool4 of stride 2": ("number <= 3 else 1", "number <= 4 else 1"),
        "2×2 pools": ("MaxPool2D(3,", "MaxPool2D(2,"),
        "average pools": ("MaxPool2D(3,", "AveragePooling2D(3,"),
        "no pool5a": ('stages[-1].append(CaffeAveragePool(name="pool5a", dtype=dtype))', "pass"),
        "fc6 not dilated": ("_conv(fc, 3, config.fc6_dilation", "_conv(fc, 3, 1"),
    },
    (backbones, "CaffeAveragePool.call", "test_torch.test_classifier"): {
        "divided by the cells inside": lambda right: lambda self, x: tf.nn.avg_pool2d(
            x, 3, 1, "SAME"),
        "no gradient": lambda right: lambda self, x: tf.stop_gradient(right(self, x)),
    },
    (backbones, "CaffeInput.call", "test_torch.test_classifier"): {
        "RGB": ("tf.reverse(images - tf.constant(INPUT_MEAN), [-1])",
                "(images - tf.constant(INPUT_MEAN))"),
        "the mean not subtracted": ("images - tf.constant(INPUT_MEAN)", "images"),
    },
    (classifier, "Classifier.objective", "test_torch.test_classifier"): {
        "summed over images": (' / counts["images"]', ""),
    },
    (segmenter, "Segmenter.objective", "test_torch.test_segmenter"): {
        "no gradient from J(f, Ŝ)": ('loss += parts["j_hat"]',
                                     'loss += tf.stop_gradient(parts["j_hat"])'),
    },
    (transforms, "pad_to_cells", "test_torch.test_segmentation_of_any_size"): {
        "padded with black": (
            "tf.pad(images - INPUT_MEAN, pads) + INPUT_MEAN", "tf.pad(images, pads)"),
    },
    (geometry, "cell_positions", "test_torch.test_segmentation_of_any_size"): {
        "corners not aligned": ("pixels / 8", "tf.maximum((pixels + 0.5) / 8 - 0.5, 0.0)"),
    },
    (geometry, "cell_positions", "test_torch.test_from_network"): {
        "corners not aligned": ("pixels / 8", "tf.maximum((pixels + 0.5) / 8 - 0.5, 0.0)"),
        "the picture's corners aligned with the input's": (
            "(pixels + 0.5) * (size / tf.cast(length, tf.float32)) - 0.5",
            "pixels * ((size - 1) / max(int(length) - 1, 1))"),
    },
}  # fmt: skip

MUTANTS = [
    Mutant(*where, fault, change)
    for where, faults in _TABLE.items()
    for fault, change in faults.items()
]


def listed():
    """The mutants as docs/paper_to_code.md has them, a row a function and test."""
    lines = ["| function | test | faults |", "|---|---|---|"]
    for (module, function, test), faults in _TABLE.items():
        file = module.__name__.replace(".", "/") + ".py"
        room, name = test.split(".")
        lines.append(
            f"| `{file}::{function}` | `tests/oracles/{room}.py::{name}` | {'; '.join(faults)} |"
        )
    return "\n".join(lines) + "\n"
