"""The dual-branch segmenter (§3.2): LargeFOV with a classification branch, trained by PSL."""

import keras
import tensorflow as tf
from absl import logging

from aepsl_tf.classes import VOID
from aepsl_tf.config import READY
from aepsl_tf.models import backbones, losses
from aepsl_tf.models.network import TwoPartNetwork, total


class Segmenter(TwoPartNetwork):
    """Pixel classifier with, unless --psl=none, a classification branch on the same trunk.

    Objective of an image: J(f, S) + J(f, Ŝ) + λ · label loss (§3.2).

    Args:
      config: `config.TrainSegmenter`.
      num_classes: foreground classes C; the network predicts C + 1.
    """

    def __init__(self, config, num_classes):
        super().__init__(config, num_classes, "segmenter")
        self.frozen, trunk = backbones.build(config)

        def init(shift):
            return keras.initializers.RandomNormal(stddev=0.01, seed=config.seed + shift)

        self.fc8_seg = keras.layers.Conv2D(
            num_classes + 1, 1, dtype="float32", name="fc8_seg", kernel_initializer=init(8)
        )
        outputs = {"logits": self.fc8_seg(trunk.output)}
        self.fc8_cls = None
        if config.psl != "none":
            pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="gap")(trunk.output)
            bias = losses.label_bias(num_classes, config.label_loss)
            self.fc8_cls = keras.layers.Dense(
                num_classes,
                dtype="float32",
                name="fc8_cls",
                kernel_initializer=init(9),
                bias_initializer=keras.initializers.Constant(bias),
            )
            outputs["label_logits"] = self.fc8_cls(pooled)
        self.tuned = keras.Model(trunk.input, outputs, name="tuned")
        # 0 until `PslStart` lets Ŝ in, then 1; not a weight, nothing to save.
        self.psl_active = tf.Variable(0.0, trainable=False, name="psl_active")

    @property
    def has_scores(self):
        return self.fc8_cls is not None

    def last_layers(self):
        """Variables that learn at --last_layer_rate."""
        return self.fc8_seg.weights + (self.fc8_cls.weights if self.has_scores else [])

    def call(self, images, training=False):
        """RGB `[B, H, W, 3]` in 0..255 → {"logits": `[B, h, w, C+1]`, "label_logits": `[B, C]`}."""
        return self.tuned(self.frozen(images), training=training)

    def scores(self, outputs):
        """v `[B, C]` from the outputs, or None without a classification branch."""
        if not self.has_scores:
            return None
        return losses.label_scores(outputs["label_logits"], self.config.label_loss)

    def cells(self, features):
        """What inference takes of features of the frozen part: {"logits" `[B, h, w, C+1]`} and,
        with a classification branch, "scores" `[B, C]`.
        """
        outputs = self.tuned(features, training=False)
        scores = self.scores(outputs)
        named = {"logits": outputs["logits"]}
        return named if scores is None else named | {"scores": scores}

    def _training_scores(self, scores, labels):
        return {"predicted": scores, "tags": labels, "ones": tf.ones_like(labels)}[
            self.config.psl_scores
        ]

    def counts(self, batch):
        """As `TwoPartNetwork.counts`, and what --pixel_norm=batch divides J(f, S) by."""
        return super().counts(batch) | self._pixels(batch["mask"])

    def _pixels(self, mask):
        """{"pixels": the labelled ones of the global batch}, where J divides by them."""
        if self.config.pixel_norm != "batch":
            return {}
        return {"pixels": total(tf.reduce_sum(tf.cast(mask != VOID, tf.float32)))}

    def _j(self, logits, mask, counts):
        """J, already divided so that the sum over the global batch is its mean."""
        if self.config.pixel_norm == "batch":
            summed, _ = losses.segmentation_loss_sums(logits, mask)
            return tf.reduce_sum(summed) / counts["pixels"]
        return tf.reduce_sum(losses.segmentation_loss(logits, mask)) / counts["images"]

    def objective(self, features, batch, counts):
        """{"loss", "j", "label", "j_hat"}: the objective's parts, means over the global batch;
        beside them "tag_score", how sure the branch is of the images' own tags.
        """
        config, labels = self.config, batch["labels"]
        outputs = self.tuned(features, training=True)
        logits = outputs["logits"]
        parts = {"j": self._j(logits, batch["mask"], counts)}
        loss = parts["j"]
        if self.has_scores:
            scores = self.scores(outputs)
            targets = losses.label_targets(labels, config.label_loss)
            per_image = losses.label_loss(labels, outputs["label_logits"], config.label_loss)
            parts["label"] = tf.reduce_sum(per_image * batch["present"]) / counts["images"]
            sure = losses.tag_score(targets, tf.stop_gradient(scores))
            parts["tag_score"] = tf.reduce_sum(sure * batch["present"]) / counts["images"]
            loss += config.classification_weight * parts["label"]
        if config.psl == "full":
            online = losses.prohibitive_mask(logits, self._training_scores(scores, labels), labels)
            online = tf.where(batch["present"][:, None, None] > 0, online, VOID)
            # Ŝ's labelled pixels are known only now, after the forward pass.
            j_hat = self._j(logits, online, counts | self._pixels(online))
            parts["j_hat"] = j_hat * self.psl_active
            loss += parts["j_hat"]
        return {"loss": loss} | parts


def psl_start(start, history):
    """The epoch (from 0) that Ŝ joins the loss at, or None if it has not come yet.

    Args:
      start: --psl_start.
      history: mean logs of the epochs so far; their "tag_score" decides for auto. So it is tags
        alone that decide, and a run that is resumed decides the same.
    """
    if start != "auto":
        return start
    ready = (e + 1 for e, logs in enumerate(history) if logs["tag_score"] >= READY)
    return next(ready, None)


class PslStart(keras.callbacks.Callback):
    """Lets J(f, Ŝ) join the loss of --psl=full when --psl_start says, and says so."""

    def on_train_begin(self, logs=None):
        self.history = list((logs or {}).get("history", ()))

    def on_epoch_begin(self, epoch, logs=None):
        start = psl_start(self.model.config.psl_start, self.history)
        active = start is not None and epoch >= start
        self.model.psl_active.assign(float(active))
        if active and epoch == start and self.history:
            logging.info("Ŝ joins the loss from epoch %d on: the tags' mean score is %.2f",
                         epoch + 1, self.history[-1]["tag_score"])  # fmt: skip

    def on_epoch_end(self, epoch, logs=None):
        self.history.append(dict(logs))

    def joined(self):
        """The epoch (from 0) that Ŝ joined at; None if it has not by the last one."""
        start = psl_start(self.model.config.psl_start, self.history[:-1])
        return start if start is not None and start < len(self.history) else None

    def on_train_end(self, logs=None):
        if self.joined() is None and self.model.config.psl_start == "auto":
            score = self.history[-1]["tag_score"]
            logging.warning(
                "Ŝ never joined the loss: the tags' mean score ended at %.2f, and --psl_start=auto "
                "waits for %.1f%s. This is the network with its classification branch alone; train "
                "longer (--epochs) or at another --learning_rate",
                score, READY, ": no epoch was left" if score >= READY else "",
            )  # fmt: skip
