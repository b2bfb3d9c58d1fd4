"""Killed at any point, a run ends with the bytes of one that was not."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import TINY

from benchmarks.kills import made

PROGRAM = pathlib.Path(__file__).with_name("dying.py")
ROOT = PROGRAM.parents[1]
POINTS = ("mid_epoch", "mid_checkpoint", "between_rename_and_manifest", "mid_shard", "mid_export")
FLAGS = [
    f"--{k}={v}"
    for k, v in (TINY | {"global_batch": 4, "segmenters": "psl", "checkpoint_seconds": 0}).items()
]


def start(point, module, *flags, tf_config=None):
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    if tf_config:
        env["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), point, module, "--workers=1", *FLAGS, *flags],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def end(process, code):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output[-3000:]
    return output


def assert_same(one, other):
    one, other = made(one), made(other)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []


def test_a_run_killed_at_five_points_ends_with_the_same_bytes(devkit, tmp_path):
    whole = start("never", "aepsl_tf.pipeline", f"--run_dir={tmp_path / 'whole'}",
                  f"--voc_root={devkit}")  # fmt: skip
    flags = [f"--run_dir={tmp_path / 'killed'}", f"--voc_root={devkit}"]
    for point in POINTS:
        end(start(point, "aepsl_tf.pipeline", *flags), -signal.SIGKILL)
    output = end(start("never", "aepsl_tf.pipeline", *flags), 0)
    assert "finished before, skipped" in output
    end(whole, 0)
    assert_same(tmp_path / "whole", tmp_path / "killed")


def job(ports, run, points):
    """The classifier's training by two workers; each dies where its point says."""
    workers = [f"127.0.0.1:{port}" for port in ports]
    return [
        start(point, "aepsl_tf.phases.train_classifier", f"--run_dir={run}",
              tf_config={"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}})
        for i, point in enumerate(points)
    ]  # fmt: skip


def test_a_job_of_two_workers_survives_the_death_of_one(finished, tmp_path):
    from training.test_strategies import free_ports

    runs = {name: tmp_path / name for name in ("whole", "killed")}
    for run in runs.values():
        shutil.copytree(finished.root / "data", run / "data")
        manifest = {k: v for k, v in finished.run_dir.manifest().items() if "write_voc" in k}
        (run / "manifest.json").write_text(json.dumps(manifest))
    for worker in job(free_ports(2), runs["whole"], ("never", "never")):
        end(worker, 0)
    chief, other = job(free_ports(2), runs["killed"], ("never", "mid_epoch"))
    end(other, -signal.SIGKILL)
    output = end(chief, 1)
    assert "\nerror: lost another worker of this job" in output, output[-3000:]
    for worker in job(free_ports(2), runs["killed"], ("never", "never")):
        end(worker, 0)
    assert_same(runs["whole"], runs["killed"])


def test_two_workers_run_the_pipeline(devkit, tmp_path):
    """The chief does what one process does, the other joins training and mining and waits."""
    from training.test_strategies import free_ports

    flags = [f"--voc_root={devkit}", f"--run_dir={tmp_path / 'run'}", "--segmenters=no_psl",
             "--cache_features", "--freeze_through=conv3"]  # fmt: skip
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    running = [
        start("never", "aepsl_tf.pipeline", *flags,
              tf_config={"cluster": {"worker": workers}, "task": {"type": "worker", "index": i}})
        for i in (0, 1)
    ]  # fmt: skip
    chief, other = (end(process, 0) for process in running)
    assert "page: " in chief and "page: " not in other
    files = made(tmp_path / "run")
    assert "no_psl/tuned.weights.h5" in files and "report/drawn/cat.png" in files
    assert not [name for name in files if "partial" in name or "worker" in name]


@pytest.mark.long
def test_fifty_kills_at_random(tmp_path):
    """The campaign of benchmarks/kills.py, as it stands in the docs."""
    from benchmarks import kills

    assert kills.campaign(tmp_path, kills=50, seed=0)["different"] == []
