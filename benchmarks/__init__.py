"""What is measured, how, and against whom."""

import importlib.metadata
import os
import pathlib
import platform
import re
import statistics
import time

import aepsl_tf as _settles_tensorflow  # noqa: F401  before any of these imports TensorFlow

_LIBRARIES = {"TensorFlow": "tensorflow", "PyTorch": "torch", "OpenCV": "cv2",
              "ONNX Runtime": "onnxruntime"}  # fmt: skip


def heading(arguments, *devices):
    """The line above a table: the devices, else the processor, load, versions, day, arguments."""
    machine = ", ".join(devices) or _processor()
    return (f"{machine}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {_versions()}, "
            f"{time.strftime('%Y-%m-%d %H:%M')}: {arguments}\n")  # fmt: skip


def _processor():
    cpus = pathlib.Path("/proc/cpuinfo")  # Linux alone says the model
    named = re.search(r"^model name\s*: (.+)$", cpus.read_text() if cpus.exists() else "", re.M)
    return named[1] if named else platform.machine()


def _versions():
    """Of the libraries that do the work, none of which need be imported for it."""
    installed = importlib.metadata.packages_distributions()
    return ", ".join(f"{name} {importlib.metadata.version(installed[module][0])}"
                     for name, module in _LIBRARIES.items() if module in installed)  # fmt: skip


def median(values, places=2):
    """The median (least to most), as a table's cell has it."""
    middle, least, most = (f"{of(values):.{places}f}" for of in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"
