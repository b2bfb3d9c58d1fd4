"""A trained model as a folder: saved whole, loaded with the settings that shaped it.

It holds `settings.json` (kind, config and class count), `history.json` (mean losses an epoch),
`tuned.weights.h5` and, where layers are frozen, `frozen.weights.h5`.
"""

import json
import shutil

import keras
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.errors import InputError
from aepsl_tf.files import to_json, write_atomic
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter

_KINDS = {
    "classifier": (Classifier, configs.TrainClassifier),
    "segmenter": (Segmenter, configs.TrainSegmenter),
}


def save(model, history, folder):
    """Writes the model folder; checkpoints have done their work."""
    kind = model.name
    model.tuned.save_weights(folder / "tuned.weights.h5")
    if model.frozen.weights:
        model.frozen.save_weights(folder / "frozen.weights.h5")
    settings = {"kind": kind, "num_classes": model.num_classes, "config": model.config.identity()}
    write_atomic(folder / "settings.json", to_json(settings))
    write_atomic(folder / "history.json", to_json(history))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def load(folder):
    """The model in a folder that `save` wrote."""
    try:
        settings = json.loads((folder / "settings.json").read_text())
    except FileNotFoundError:
        raise InputError(f"{folder} holds no trained model: train it first") from None
    build, config = _KINDS[settings["kind"]]
    wanted = configs.of_today(settings["config"])
    if unknown := wanted.keys() - config.defaults().keys():
        raise InputError(
            f"{folder}/settings.json: --{min(unknown)} is no setting of this version: train the "
            "model again"
        )
    model = build(config(**wanted), settings["num_classes"])
    load_weights(model, folder)
    return model


def load_weights(model, folder):
    """Fills a model from a model folder of the same shape; layers that differ are an error."""
    try:
        model.tuned.load_weights(folder / "tuned.weights.h5")
        if model.frozen.weights:
            model.frozen.load_weights(folder / "frozen.weights.h5")
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: its weights do not fit this network ({first})") from error


def start_over(settings):
    """What every phase that runs a network begins with: Keras's global state of the phase before
    is freed, and --deterministic is set.

    TensorFlow has no way back from determinism: once on, it is on to the end of the process.

    Args:
      settings: a `config.Determinism`.
    """
    keras.backend.clear_session()
    wanted = settings.deterministic
    if wanted == "on" or (wanted == "auto" and not tf.config.list_physical_devices("GPU")):
        tf.config.experimental.enable_op_determinism()
