"""The same five steps on one device, two replicas and two workers; strategies by name."""

import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from aepsl_tf.errors import InputError
from aepsl_tf.training import strategies

PROGRAM = pathlib.Path(__file__).with_name("five_steps.py")
ROOT = PROGRAM.parents[2]


def free_ports(count):
    """Ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)], cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What each strategy trained; all four processes at once."""
    made = {name: tmp_path_factory.mktemp(name) for name in ("one_device", "mirrored", "workers")}
    ports = ",".join(map(str, free_ports(2)))
    running = [
        start("one_device", made["one_device"]),
        start("mirrored", made["mirrored"]),
        *(start("multi_worker", made["workers"], ports, task) for task in (0, 1)),
    ]
    for process in running:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output[-2000:]
    return made


@pytest.mark.parametrize("case", ["classifier", "psl", "psl_batch_norm"])
@pytest.mark.parametrize("strategy", ["mirrored", "workers"])
def test_strategies_agree_after_five_steps(folders, strategy, case):
    one = np.load(folders["one_device"] / f"{case}.npz")
    other = np.load(folders[strategy] / f"{case}.npz")
    np.testing.assert_allclose(other["loss"], one["loss"], rtol=1e-4)
    for name in (n for n in one if n.startswith("w") and one[n].dtype.kind == "f"):
        start = one["b" + name[1:]]
        np.testing.assert_array_equal(other["b" + name[1:]], start)
        moved, moved_too = one[name] - start, other[name] - start
        if np.linalg.norm(start) > 0:  # biases start at 0
            assert np.linalg.norm(moved) > 0.01 * np.linalg.norm(start)
        assert np.linalg.norm(moved - moved_too) <= 1e-3 * np.linalg.norm(moved), name


@pytest.mark.parametrize(
    "text", ["", "{", '{"cluster": {"worker": ["a:1"]}}',
             '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
             '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}']
)  # fmt: skip
def test_bad_tf_config_is_one_line(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="needs TF_CONFIG, such as") as caught:
        strategies.get.__wrapped__("multi_worker")
    assert "\n" not in str(caught.value)


def test_auto_takes_one_device_on_a_machine_without_gpus(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(strategies.tf.config, "list_physical_devices", lambda kind: [])
    assert strategies.get.__wrapped__("auto").num_replicas_in_sync == 1
    assert strategies.worker(strategies.get.__wrapped__("auto")) == (0, 1)


def test_auto_mirrors_over_gpus(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.setattr(strategies.tf.config, "list_physical_devices", lambda kind: ["a", "b"])
    monkeypatch.setattr(strategies.tf.distribute, "MirroredStrategy", lambda devices: devices)
    cpus = [d.name for d in strategies.tf.config.list_logical_devices("CPU")]
    assert strategies.get.__wrapped__("auto") == cpus
