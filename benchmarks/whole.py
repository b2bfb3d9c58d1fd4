"""A whole run of the pipeline against an older checkout's: seconds by phase, and what came out.

python -m benchmarks.whole OLDER RUNS --flagfile=/data/common.flags --voc_root=/data/VOC2012 \\
  --weights=/data/vgg16.h5 --theirs=--psl_start_epoch=4 --ours=--psl_start=4 --ours=--precision=auto

OLDER's pipeline and this checkout's get the same flags and make RUNS/older and RUNS/ours, one
after the other; each runs in its own checkout, so paths in flags are absolute. `--theirs` and
`--ours` are for flags that only one of them knows by that name, such as those that choose the fast
way. A phase's time is what the run's summary says, "all phases" their sum; the whole command's is
with its start. Killed, give the same command again: finished phases stay, and there is no time of
the whole command. Run it on a quiet machine.
"""

import argparse
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

from benchmarks import heading

ROOT = pathlib.Path(__file__).resolve().parents[1]


def whole(tree, flags, run_dir):
    """Runs the pipeline of the checkout `tree`: (seconds, or None if an earlier try had begun; what
    its summary.json says).
    """
    resumed = run_dir.exists()
    command = [sys.executable, "-m", "aepsl_tf.pipeline", f"--run_dir={run_dir}", *flags]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    start = time.monotonic()
    if subprocess.run(command, cwd=tree, env=environment, check=False).returncode:
        raise SystemExit(f"error: {' '.join(command[1:])} failed in {tree}; its message is above")
    seconds = None if resumed else time.monotonic() - start
    return seconds, json.loads((run_dir / "summary.json").read_text())


def kinds(seconds):
    """{phase: seconds of all its steps and models}."""
    summed = {}
    for key, value in seconds.items():
        phase = key.partition("/")[0]
        summed[phase] = summed.get(phase, 0) + value
    return summed


def row(name, *seconds):
    ours, older = ("resumed" if s is None else f"{s:.0f}" for s in seconds)
    share = f"{seconds[0] / seconds[1]:.2f}" if all(seconds) else ""
    print(f"| {name} | {ours} | {older} | {share} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("older", type=pathlib.Path)
    parser.add_argument("runs", type=pathlib.Path)
    parser.add_argument("--theirs", action="append", default=[], help="a flag for OLDER only")
    parser.add_argument("--ours", action="append", default=[], help="a flag for this checkout only")
    arguments, flags = parser.parse_known_args()
    runs = arguments.runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    older, old = whole(arguments.older.resolve(), [*flags, *arguments.theirs], runs / "older")
    ours, new = whole(ROOT, [*flags, *arguments.ours], runs / "ours")

    print(heading(shlex.join(sys.argv[1:])))
    print("| phase | ours, s | older, s | share |\n|---|---:|---:|---:|")
    times, before = kinds(new["seconds"]), kinds(old["seconds"])
    for phase in sorted(before.keys() | times.keys()):
        row(phase, times.get(phase, 0), before.get(phase, 0))
    row("all phases", sum(times.values()), sum(before.values()))
    row("the whole command", ours, older)
    print("\n| val mIoU | ours | older | difference |\n|---|---:|---:|---:|")
    for model, value in new["model_miou"].items():
        was = old["model_miou"].get(model)
        if value is not None and was is not None:
            print(f"| {model} | {value:.3f} | {was:.3f} | {value - was:+.3f} |")


if __name__ == "__main__":
    main()
