"""A trained model as a folder: saved whole, loaded with the settings that shaped it.

It holds `settings.json` (kind, config and class count), `history.json` (mean losses an epoch),
`tuned.weights.h5` and, where layers are frozen, `frozen.weights.h5`.
"""

import shutil

import keras
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.classes import MAX_CLASSES
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_json, sealed, to_json, write_atomic
from aepsl_tf.models import backbones
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
    write_atomic(folder / "settings.json", sealed(settings))
    write_atomic(folder / "history.json", to_json(history))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


_SETTINGS = {"kind": str, "num_classes": int, "config": {str: object}}


def load(folder, **changes):
    """The model in a folder that `save` wrote.

    Args:
      changes: settings that it gets in place of its own, such as its precision.

    Raises:
      InputError: there is none, or it is damaged; in one line.
    """
    path, advice = folder / "settings.json", "train the model again"
    try:
        settings = read_json(path, _SETTINGS, advice)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no trained model: train it first") from None
    kind, classes = settings["kind"], settings["num_classes"]
    if kind not in _KINDS or not 1 <= classes <= MAX_CLASSES:
        raise InputError(f"{path}: no model of this project: {advice}")
    build, config = _KINDS[kind]
    wanted = configs.of_today(settings["config"])
    if unknown := wanted.keys() - config.defaults().keys():
        raise InputError(f"{path}: --{min(unknown)[:80]} is no setting: {advice}")
    try:
        model = build(config(**wanted | changes), classes)
    except InputError as error:
        raise InputError(f"{path}: {error}: {advice}") from None
    load_weights(model, folder)
    return model


def history(folder):
    """Mean logs an epoch, as `save` wrote them.

    Raises:
      InputError: there are none, or they are damaged.
    """
    try:
        return read_json(folder / "history.json", [{str: float}], "train the model again")
    except FileNotFoundError:
        raise InputError(f"{folder} holds no trained model: train it first") from None


def load_weights(model, folder):
    """Fills a model from a model folder of the same shape.

    Raises:
      InputError: layers that differ, a damaged file, a weight that is no number.
    """
    parts = [(model.tuned, folder / "tuned.weights.h5")]
    if model.frozen.weights:
        parts.append((model.frozen, folder / "frozen.weights.h5"))
    for part, path in parts:
        try:
            part.load_weights(path)
        except Exception as error:  # h5py and Keras raise OSError, KeyError, RuntimeError, …
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path}: its weights do not fit this network ({first})") from error
        backbones.check_finite(part, path)


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
