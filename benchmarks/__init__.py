"""What is measured, how, and against whom."""

import importlib.metadata
import os
import pathlib
import platform
import re
import statistics
import subprocess
import time

import aepsl_tf as _settles_tensorflow  # noqa: F401  before any of these imports TensorFlow

_LIBRARIES = {"TensorFlow": "tensorflow", "PyTorch": "torch", "OpenCV": "cv2",
              "ONNX Runtime": "onnxruntime"}  # fmt: skip
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # what a network's rate hangs on


def heading(arguments, *devices):
    """The line above a table: the machine, load, versions, this project's commit, day, arguments.

    Args:
      devices: names of what the work is done on, where it is not the processor.
    """
    return (f"{machine(*devices)}, load {os.getloadavg()[0]:.2f}, {_versions()}, "
            f"{time.strftime('%Y-%m-%d %H:%M')}: {arguments}\n")  # fmt: skip


def machine(*devices):
    """The devices, else the processor and the best that it has for networks; how many cores."""
    return f"{', '.join(devices) or _processor()}, {os.cpu_count()} cores"


def _processor():
    cpus = pathlib.Path("/proc/cpuinfo")  # Linux alone says the model
    text = cpus.read_text() if cpus.exists() else ""
    named = re.search(r"^model name\s*: (.+)$", text, re.M)
    flags = re.search(r"^flags\s*: (.+)$", text, re.M)
    found = [name for name in _INSTRUCTIONS if flags and name in flags[1].split()]
    return (named[1] if named else platform.machine()) + (f" ({found[0]})" if found else "")


def settled(precision, backbone="vgg16"):
    """A --precision, what auto takes on this machine in its place; says which that is."""
    if precision != "auto":
        return precision
    from aepsl_tf import config
    from aepsl_tf.training import precision as tries

    taken, _ = tries.choose(config.TrainSegmenter(backbone=backbone, precision="auto"))
    print(f"auto takes {taken}\n")
    return taken


def _versions():
    """Of the libraries that do the work, none of which need be imported for it."""
    installed = importlib.metadata.packages_distributions()
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty",
               "--exclude=*"]  # fmt: skip
    try:
        commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        commit = ""
    every = [f"{name} {importlib.metadata.version(installed[module][0])}"
             for name, module in _LIBRARIES.items() if module in installed]  # fmt: skip
    return ", ".join(every + [f"commit {commit}"] * bool(commit))


def median(values, places=2):
    """The median (least to most), as a table's cell has it."""
    middle, least, most = (f"{of(values):.{places}f}" for of in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"
