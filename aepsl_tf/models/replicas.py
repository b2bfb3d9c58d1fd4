"""Counts over all replicas: gradients are summed, so losses divide by global counts."""

import tensorflow as tf


def total(count):
    """Sum of a local count over the replicas, float32, at least 1."""
    count = tf.cast(count, tf.float32)
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        count = context.all_reduce(tf.distribute.ReduceOp.SUM, count)
    return tf.maximum(count, 1.0)
