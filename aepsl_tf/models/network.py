"""What both networks share: two parts, pretrained weights, and the train step.

Gradients are summed over replicas and over the parts of an accumulated batch, so a loss divides
by the counts of the global batch. However the batch is cut, the step is the same up to rounding,
but for dropout: each part draws its own.
"""

import keras
import tensorflow as tf

from aepsl_tf.models import backbones


def total(count):
    """Sum of a local count over the replicas, float32, at least 1."""
    return tf.maximum(_summed(tf.cast(count, tf.float32)), 1.0)


def _summed(values):
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


def _cut(batch, pieces):
    """The batch in so many pieces of equal size."""
    if pieces == 1:
        return [batch]
    size, rest = divmod(batch["labels"].shape[0], pieces)
    if rest:
        raise ValueError(f"a batch of {batch['labels'].shape[0]} in {pieces} equal pieces")
    return [{k: v[i * size : (i + 1) * size] for k, v in batch.items()} for i in range(pieces)]


class TwoPartNetwork(keras.Model):
    """A trunk in two parts (`frozen`, `tuned`; see `backbones.build`) with its own train step.

    A subclass sets both parts, and says `objective(features, batch, counts)` and `last_layers()`.

    Args:
      config: a `config.Network` that is a `config.Solver` too.
      num_classes: foreground classes C.
    """

    def __init__(self, config, num_classes, name):
        super().__init__(name=name)
        self.config, self.num_classes = config, num_classes

    def load_pretrained(self, weights):
        """Fills the trunk; see `backbones.load_weights`."""
        backbones.load_weights([self.frozen, self.tuned], weights, self.config.backbone)

    def fixed(self):
        """A scope in which what is traced takes the weights as constants.

        What a CPU's library makes of a kernel, such as another order of its numbers, it then makes
        once and not at every call: a picture alone costs no more than one of a batch.
        """
        with tf.init_scope():  # a function may be in the making
            values = [(v, keras.ops.convert_to_numpy(v)) for v in self.variables]
        return keras.StatelessScope(values)

    def counts(self, batch):
        """What losses divide by: {"images": those of the global batch}."""
        return {"images": total(tf.reduce_sum(batch["present"]))}

    def train_step(self, batch):
        """One step on a replica's share of the batch; returns the replica's share of the losses.

        The share is forwarded in --accumulate pieces, one after the other, each in the memory
        that the one before has freed.

        Args:
          batch: "image" `[B, H, W, 3]` or cached "features", "labels" `[B, C]`; for a segmenter
            "mask" `[B, h, w]`; where the batch is filled up, "present" `[B]` of 0 and 1.
        """
        if "present" not in batch:  # every image counts
            batch = batch | {"present": tf.ones_like(batch["labels"][:, 0])}
        counts = self.counts(batch)
        variables = self.tuned.trainable_variables
        gradients, logs = None, None
        for piece in _cut(batch, self.config.accumulate):
            if gradients is not None:
                with tf.control_dependencies(gradients):
                    piece = {k: tf.identity(v) for k, v in piece.items()}
            features = piece["features"] if "features" in piece else self.frozen(piece["image"])
            with tf.GradientTape() as tape:
                losses = self.objective(features, piece, counts)
                # float16 gradients underflow unscaled; other optimizers scale by 1.
                loss = self.optimizer.scale_loss(losses["loss"])
            more = tape.gradient(loss, variables)
            gradients = more if gradients is None else _add(gradients, more)
            logs = losses if logs is None else {k: logs[k] + v for k, v in losses.items()}
        # Summed here and not by the optimizer, so that a float16 overflow on one replica is seen,
        # and its step skipped, by all of them.
        self.optimizer.apply_gradients(zip(_summed(gradients), variables, strict=True))
        return logs


def _add(ones, others):
    return [one + other for one, other in zip(ones, others, strict=True)]
