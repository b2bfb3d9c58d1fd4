"""The paper's losses, one pure function an equation. All in float32, one value an image."""

import math

import tensorflow as tf

from aepsl_tf.classes import VOID


def squared_label_loss(targets, scores):
    """Squared label prediction loss (§3.1, §3.2; HCP, Wei et al. 2016), summed over classes.

    Args:
      targets: float `[B, C]`: tags as 0/1, or divided by their sum for the softmax reading.
      scores: float `[B, C]`: v, sigmoid or softmax.

    Returns:
      float32 `[B]`.
    """
    return tf.reduce_sum(tf.square(targets - scores), axis=-1)


def label_loss(labels, logits, reading):
    """What label logits cost by a reading: the paper's squared loss of softmax or sigmoid scores,
    or sigmoid scores' cross-entropy, whose gradient stays where a score is sure and wrong: under
    the squared loss a class that all scores have left does not come back.

    Args:
      labels: 0/1 tags, float `[B, C]`; logits: `[B, C]`.
      reading: "softmax", "sigmoid" or "cross_entropy".

    Returns:
      float32 `[B]`, summed over classes.
    """
    if reading == "cross_entropy":
        logits = tf.cast(logits, tf.float32)
        each = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_sum(each, axis=-1)
    return squared_label_loss(label_targets(labels, reading), label_scores(logits, reading))


def label_scores(logits, reading):
    """v: classification confidences `[B, C]` in 0..1: softmax, or else sigmoid ones."""
    logits = tf.cast(logits, tf.float32)
    return tf.nn.softmax(logits) if reading == "softmax" else tf.nn.sigmoid(logits)


def label_bias(num_classes, reading):
    """Where a classification bias starts: at the score of one tag in C.

    Sigmoid scores that start at 0.5 for every class are all pushed down at once, which overshoots
    into saturation, where the squared loss has no gradient. Softmax starts at 1/C by itself.
    """
    return 0.0 if reading == "softmax" else -math.log(max(num_classes - 1, 1))


def label_targets(labels, reading):
    """What the scores should be: 0/1 tags `[B, C]`, divided by their sum for softmax."""
    if reading != "softmax":
        return labels
    return tf.math.divide_no_nan(labels, tf.reduce_sum(labels, axis=-1, keepdims=True))


def target_of_each(tags, reading):
    """What `label_targets` has for each of the `tags` (a number, not 0) that an image has."""
    return 1 / tags if reading == "softmax" else 1.0


def tag_score(targets, scores):
    """How far the scores of an image's own tags have come: the mean of v_c / target_c, at most 1
    each, over the tags; 1 when a classifier is sure of all of them. From tags alone.

    Args:
      targets: `label_targets` `[B, C]`; scores: v `[B, C]`.

    Returns:
      float32 `[B]` in 0..1; of an image without a tag how sure it is that there is none.
    """
    tagged = tf.cast(targets > 0, tf.float32)
    shares = tf.minimum(tf.math.divide_no_nan(scores, targets), 1.0) * tagged
    own = tf.math.divide_no_nan(tf.reduce_sum(shares, -1), tf.reduce_sum(tagged, -1))
    return tf.where(tf.reduce_any(targets > 0, -1), own, 1 - tf.reduce_max(scores, -1))


def segmentation_loss(logits, mask):
    """J(f, S) (§3.2): cross-entropy over the labelled pixels of each image, by their number.

    Args:
      logits: `[B, h, w, C+1]` before softmax.
      mask: integer `[B, h, w]`: class ids, 255 (VOID) where unlabelled.

    Returns:
      float32 `[B]`; 0, with zero gradient, where an image has no labelled pixel.
    """
    total, labelled = segmentation_loss_sums(logits, mask)
    return tf.math.divide_no_nan(total, labelled)


def segmentation_loss_sums(logits, mask):
    """J's numerator and denominator, float32 `[B]` each: summed cross-entropy, labelled pixels."""
    mask = tf.cast(mask, tf.int32)
    # Not TensorFlow's own cross-entropy: with --deterministic that is another sum, in other bits.
    log_f = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    chosen = tf.one_hot(mask, logits.shape[-1])  # VOID is no class: all zeros
    labelled = tf.reduce_sum(tf.cast(mask != VOID, tf.float32), [1, 2])
    return -tf.reduce_sum(chosen * log_f, [1, 2, 3]), labelled


def weigh(logits, weights, precision=tf.float64):
    """log([1, v] ⊗ f), but for a constant a pixel (§3.2): where a class that is 90 logits ahead is
    prohibited the others still have an order, which products of probabilities lose.

    Args:
      logits: of f before softmax, float32 `[B, h, w, C+1]`, background first.
      weights: [1, v], `[B, C+1]`; 0 prohibits.
      precision: of the logarithm. In float64 it has the same float32 value wherever it stands in
        a vector; TFLite has it in float32 alone.

    Returns:
      float32 `[B, h, w, C+1]`, -inf where prohibited.
    """
    log_weights = tf.cast(tf.math.log(tf.cast(weights, precision)), tf.float32)
    return logits + log_weights[..., None, None, :]


def prohibitive_mask(logits, scores, labels):
    """Ŝ = max{[1, v] ⊗ f} (§3.2): the online mask, 255 where its class is outside O^seg.

    Args:
      logits: of f before softmax, `[B, h, w, C+1]`, background first.
      scores: v, `[B, C]`.
      labels: O, 0/1 `[B, C]`; the background always belongs to O^seg.

    Returns:
      int32 `[B, h, w]` without gradient.
    """
    ones = tf.ones_like(scores[:, :1])
    weighed = weigh(tf.cast(logits, tf.float32), tf.concat([ones, scores], axis=-1))
    mask = tf.argmax(weighed, axis=-1, output_type=tf.int32)
    allowed = tf.concat([ones, tf.cast(labels, ones.dtype)], axis=-1) > 0
    mask = tf.where(tf.gather(allowed, mask, batch_dims=1), mask, VOID)
    return tf.stop_gradient(mask)
