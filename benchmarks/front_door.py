"""Reading and checking a devkit, side by side with an older version of this repository.

python -m benchmarks.front_door VOC2012 --split=train --against=OLDER [--runs=5] [--ids_file=LIST]

Each run is `write_voc` of one split in a process of its own, images and truth, on one worker,
here and in OLDER (a checkout) by turns. Printed are the seconds of `write_voc` itself, the ratio
of the medians, and each version's least and most.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile

from absl import app, flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
_CALL = """
import sys, time
from aepsl_tf import config
from aepsl_tf.run_dir import RunDir
from data_prep import write_voc
root, out, split, ids = sys.argv[1:]
fields = {"ids_file": ids} if ids else {}
settings = config.WriteVoc(voc_root=root, split=split, **fields)
start = time.perf_counter()
write_voc.run(settings, RunDir(out), 1)
print("seconds", time.perf_counter() - start)
"""


def seconds(version, devkit, split, ids):
    """Seconds of one `write_voc` by a checkout of this repository."""
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [sys.executable, "-c", _CALL, devkit, f"{out}/run", split, ids],
            cwd=version, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return float(done.stdout.split("seconds")[-1])


def main(argv):
    devkit, given = str(pathlib.Path(argv[1]).resolve()), flags.FLAGS
    versions = {"here": ROOT, "older": pathlib.Path(given.against).resolve()}
    times = {name: [] for name in versions}
    for _ in range(given.runs):
        for name, version in versions.items():
            times[name].append(seconds(version, devkit, given.split, given.ids_file))
    for name, found in times.items():
        print(f"{name}: {statistics.median(found):.2f} s ({min(found):.2f} to {max(found):.2f})")
    ratio = statistics.median(times["here"]) / statistics.median(times["older"])
    print(f"ratio: {ratio:.2f}")


if __name__ == "__main__":
    flags.DEFINE_string("split", "train", "of the devkit")
    flags.DEFINE_string("ids_file", "", "list of ids, in place of the split's")
    flags.DEFINE_string("against", "", "a checkout of an older version")
    flags.DEFINE_integer("runs", 5, "of each version")
    app.run(main)
