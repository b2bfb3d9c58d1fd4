"""Class activation maps (Zhou et al., CVPR 2016): H = CAM(I, M_t, c)."""

import tensorflow as tf


def class_activation_map(features, class_weights):
    """H^c: fc7 weighed by the class's fully connected weights.

    Its mean over the cells is the class's logit less its bias.

    Args:
      features: fc7 `[B, h, w, K]`.
      class_weights: `[K, C]`.

    Returns:
      float32 `[B, h, w, C]`.
    """
    return tf.einsum("bhwk,kc->bhwc", tf.cast(features, tf.float32), class_weights)
