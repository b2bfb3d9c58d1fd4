"""The AE classifier M_t (§3.1): LargeFOV trunk, global average pooling on fc7, fully connected."""

import keras
import tensorflow as tf

from aepsl_tf.models import backbones, losses
from aepsl_tf.models.network import TwoPartNetwork


class Classifier(TwoPartNetwork):
    """Image-level classifier.

    Args:
      config: `config.TrainClassifier` (or any `Network` with `label_loss`).
      num_classes: foreground classes C.
    """

    def __init__(self, config, num_classes):
        super().__init__(config, num_classes, "classifier")
        self.frozen, trunk = backbones.build(config)
        fc8 = keras.layers.Dense(
            num_classes,
            dtype="float32",
            name="fc8",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01, seed=config.seed + 7),
            bias_initializer=keras.initializers.Constant(
                losses.label_bias(num_classes, config.label_loss)
            ),
        )
        pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="gap")(trunk.output)
        self.tuned = keras.Model(trunk.input, [trunk.output, fc8(pooled)], name="tuned")
        self.fc8 = fc8

    has_scores = True

    def last_layers(self):
        """Variables that learn at --last_layer_rate."""
        return self.fc8.weights

    def call(self, images, training=False):
        """RGB `[B, H, W, 3]` in 0..255 → label logits `[B, C]`."""
        return self.tuned(self.frozen(images), training=training)[1]

    def maps(self, features):
        """Features of the frozen part → (fc7 `[B, h, w, K]`, label logits `[B, C]`)."""
        fc7, logits = self.tuned(features, training=False)
        return tf.cast(fc7, tf.float32), logits

    def scores(self, logits):
        """v `[B, C]` of `maps`' label logits."""
        return losses.label_scores(logits, self.config.label_loss)

    def class_weights(self):
        """fc8's kernel `[K, C]`: what class activation maps weigh fc7 with."""
        return self.fc8.kernel

    def objective(self, features, batch, counts):
        """{"loss"}: the label loss, the mean over the global batch."""
        _, logits = self.tuned(features, training=True)
        per_image = losses.label_loss(batch["labels"], logits, self.config.label_loss)
        return {"loss": tf.reduce_sum(per_image * batch["present"]) / counts["images"]}
