"""Kills whole pipeline runs at random instants and compares what they end with.

python -m benchmarks.kills --kills=50

A run is started on drawn scenes and killed (SIGKILL, with its workers) after a random time, again
and again in the same run folder until it ends by itself; then the next one begins. Every file but
the TensorBoard curves, and every manifest entry but its seconds, must equal those of a run that
nobody killed; so must the report's page, but for these seconds and the run's name.
"""

import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = {
    "backbone": "vgg16_small", "weights": "none", "input": "warp", "input_size": 65,
    "freeze_through": "conv3", "cache_features": True, "fc6_dilation": 1, "optimizer": "adam",
    "epochs": 3, "global_batch": 8, "label_loss": "sigmoid", "threshold": 0.5,
    "method": "spectral_residual", "max_steps": 2, "merge_steps": 2, "psl_start": "1",
    "crf_preset": "small", "checkpoint_seconds": 0.5,
}  # fmt: skip


def start(run, devkit, log):
    """One try of the run, the leader of its own process group."""
    settings = SETTINGS | {"run_dir": run, "voc_root": devkit}
    command = [
        sys.executable,
        "-m",
        "aepsl_tf.pipeline",
        *(f"--{k}={v}" for k, v in settings.items()),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )


def finish(run, devkit, log):
    """A try that nobody kills. Returns its seconds."""
    begun = time.monotonic()
    if start(run, devkit, log).wait():
        raise SystemExit(f"the run failed: see {log.name}")
    return time.monotonic() - begun


def made(run):
    """Every file of a run but its curves → bytes; manifest and page without seconds."""
    files = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        name = str(path.relative_to(run))
        if not name.startswith("tensorboard") and name not in (".lock", "summary.json"):
            files[name] = path.read_bytes()
    manifest = json.loads(files["manifest.json"])
    del manifest["seal"]
    files["manifest.json"] = {k: v | {"seconds": 0} for k, v in manifest.items()}
    if page := files.get("report/index.html"):
        files["report/index.html"] = re.sub(rb'"seconds": [\d.]+|"run": "\w+"', b"", page)
    return files


def interrupted_phase(run):
    """What a killed try was at: the phase it had begun and not finished."""
    begun = [p.name.removesuffix(".partial.json") for p in run.rglob("*.partial.json")]
    return begun[0] if begun else "between phases or starting"


def campaign(folder, kills, seed):
    """Runs it all below `folder`. Returns a dictionary of what happened."""
    folder, rng = pathlib.Path(folder), random.Random(seed)
    devkit = folder / "devkit"
    subprocess.run(
        [sys.executable, "-m", "data_prep.make_demo", f"--demo_root={devkit}",
         "--demo_train=32", "--demo_val=8"], cwd=ROOT, check=True,
    )  # fmt: skip
    result = {"kills": 0, "runs": 0, "killed_in": collections.Counter(), "different": []}
    with open(folder / "log.txt", "w") as log:
        seconds = finish(folder / "whole", devkit, log)
        whole = made(folder / "whole")
        result |= {"seconds": round(seconds, 1), "files": len(whole)}
        while result["kills"] < kills:
            run = folder / "killed"
            shutil.rmtree(run, ignore_errors=True)
            ended = False
            while not ended and result["kills"] < kills:
                process = start(run, devkit, log)
                try:
                    process.wait(rng.uniform(0, 0.8 * seconds))
                    ended = True
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    result["kills"] += 1
                    result["killed_in"][interrupted_phase(run)] += 1
            if not ended:
                finish(run, devkit, log)
            result["runs"] += 1
            killed = made(run)
            different = [k for k in whole.keys() | killed.keys() if whole.get(k) != killed.get(k)]
            result["different"] += sorted(different)
            print(f"{result['kills']} kills, {result['runs']} runs ended; "
                  f"{len(different)} of {len(whole)} files differ", flush=True)  # fmt: skip
    return result


def main(argv):
    del argv
    with tempfile.TemporaryDirectory(dir=flags.FLAGS.folder or None) as folder:
        result = campaign(folder, flags.FLAGS.kills, flags.FLAGS.seed)
    result["killed_in"] = dict(result["killed_in"].most_common())
    print(json.dumps(result, indent=1))
    sys.exit(bool(result["different"]))


if __name__ == "__main__":
    flags.DEFINE_integer("kills", 50, "kills in all")
    flags.DEFINE_integer("seed", 0, "of the random instants")
    flags.DEFINE_string("folder", "", "where the runs lie while this works; default the system's")
    app.run(main)
