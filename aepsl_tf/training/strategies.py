"""Which devices train: tf.distribute's strategies by name, and who of several workers writes."""

import functools
import json
import os
import re

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
    if wrong := _wrong_in(text):
        raise InputError(
            "--strategy=multi_worker needs TF_CONFIG, such as "
            '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}}; {wrong}, in {text[:300]!r}'
        )


def _wrong_in(text):
    """What a TF_CONFIG lacks, in words, or None."""
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        kind, index = task["type"], task["index"]
        hosts = {name: list(of_kind) for name, of_kind in cluster.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"it is not of this form ({error!r})"
    every = [host for of_kind in hosts.values() for host in of_kind]
    if not hosts.keys() <= {"chief", "worker"} or len(hosts.get("chief", [])) > 1:
        return "a cluster is of one chief at most and of workers"
    if not all(isinstance(of_kind, list) for of_kind in cluster.values()):
        return "a cluster names lists of hosts"
    if not all(isinstance(host, str) and re.fullmatch(r"\S+:\d{1,5}", host) for host in every):
        return "a host is host:port"
    if len(set(every)) != len(every):
        return "a host is there twice"
    if (
        not isinstance(kind, str)
        or kind not in hosts
        or type(index) is not int
        or not 0 <= index < len(hosts[kind])
    ):
        return "its task is none of the cluster's"
    return None


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
    @tf.function(autograph=False)
    def summed(value):
        values = strategy.run(tf.identity, args=(value,))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

    return summed
