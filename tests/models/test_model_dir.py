"""What phases that run a network begin with: --deterministic."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from conftest import TINY

from aepsl_tf import config
from aepsl_tf.models import model_dir
from aepsl_tf.run_dir import RunDir

PROGRAM = pathlib.Path(__file__).with_name("determinism.py")
ROOT = PROGRAM.parents[2]


@pytest.mark.parametrize(
    ("wanted", "gpus", "is_on"),
    [
        ("auto", [], True),
        ("auto", ["GPU:0"], False),
        ("on", ["GPU:0"], True),
        ("off", [], False),
    ],
)
def test_where_determinism_is_on(monkeypatch, wanted, gpus, is_on):
    asked = []
    tf_config = model_dir.tf.config
    monkeypatch.setattr(tf_config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(tf_config.experimental, "enable_op_determinism", lambda: asked.append(1))
    model_dir.start_over(config.TrainClassifier(deterministic=wanted))
    assert bool(asked) is is_on


def test_on_a_cpu_determinism_changes_no_byte(finished, tmp_path):
    """Crops, mirrors and dropout included; and nothing of ours lacks a seed."""
    common = TINY | {"input": "crop", "optimizer": "sgd", "learning_rate": 0.01, "epochs": 2}
    running = {}
    for way in ("on", "off"):
        root = tmp_path / way
        shutil.copytree(finished.root, root, ignore=shutil.ignore_patterns("tensorboard"))
        running[way] = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(root), way, json.dumps(common)],
            cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    for way, process in running.items():
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
        assert printed.splitlines()[-1] == ("refused" if way == "on" else "allowed")
    manifests = [RunDir(tmp_path / way).manifest() for way in ("on", "off")]
    trained, before = (
        ["train_classifier/step_2", "train_segmenter/psl"],
        finished.run_dir.manifest(),
    )
    for key in [*trained, "mine_regions/step_2", "relabel/relabelled", "evaluate/psl"]:
        on, off = (m[key]["digest"] for m in manifests)
        assert on == off, key
        assert key not in trained or on != before[key]["digest"]
