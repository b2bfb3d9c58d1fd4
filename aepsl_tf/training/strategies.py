"""Which devices train: tf.distribute's strategies by name, and who of several workers writes."""

import functools
import json
import os

import tensorflow as tf

from aepsl_tf.errors import InputError


@functools.cache
def get(name):
    """The strategy of --strategy, one object a process.

    With several workers the first call must come before TensorFlow computes anything.

    Raises:
      InputError: multi_worker without a TF_CONFIG that names this worker.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        name = "multi_worker" if "TF_CONFIG" in os.environ else "mirrored"
        name = name if name == "multi_worker" or len(gpus) > 1 else "one_device"
    if name == "one_device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([d.name for d in devices])
    _check_tf_config()
    return tf.distribute.MultiWorkerMirroredStrategy()


def _check_tf_config():
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        workers = [a for kind in ("chief", "worker") for a in config["cluster"].get(kind, [])]
        config["cluster"][config["task"]["type"]][int(config["task"]["index"])]
        if not workers:
            raise KeyError("no worker")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            "--strategy=multi_worker needs TF_CONFIG, such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}; found {text!r} ({error!r})'
        ) from None


def worker(strategy):
    """(index of this worker, their number); (0, 1) on one machine. Worker 0, the chief, writes."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return 0, 1
    cluster = resolver.cluster_spec().as_dict()
    chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
    index = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    return index, chiefs + workers


def wait_for_all(strategy, value=0):
    """Returns when every replica has come here: the sum of their values."""
    return float(_summer(strategy)(tf.constant(value, tf.float32)))


@functools.cache
def _summer(strategy):
    @tf.function
    def summed(value):
        values = strategy.run(tf.identity, args=(value,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    return summed
