"""What is measured, how, and against whom."""

import os
import platform
import time

import aepsl_tf as _settles_tensorflow  # noqa: F401  before any of these imports TensorFlow


def heading(arguments, *devices, libraries=""):
    """The line above a table: the devices, else the processor's kind, load, day and arguments."""
    machine = ", ".join(devices) or platform.machine()
    return (f"{machine}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}, {libraries}"
            f"{time.strftime('%Y-%m-%d %H:%M')}: {arguments}\n")  # fmt: skip
