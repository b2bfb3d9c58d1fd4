"""TensorFlow loads and tries without a word, unless something is wrong.

While its libraries load, TensorFlow writes to standard error before it looks at any log level: that
oneDNN is on, that CUDA's factories are registered twice. Python cannot speak to it earlier, so
`install` has what is written during that import, and no longer, go through `grep`, which leaves
out the lines that are known to mean nothing. All else comes through, whatever becomes of this
process: a library that is missing, or the last words of one that does not fit the processor.
"""

import contextlib
import importlib.machinery
import logging
import os
import shutil
import sys

_IDLE = "|".join((
    "^WARNING: All log messages before absl::InitializeLog\\(\\) is called",
    "^(I[0-9]{4} [0-9:.]+ +[0-9]+|[-0-9]+ [0-9:.]+: I) ",  # information, in either of its forms
    "^To enable the following instructions: ",  # the second line of one
    "Unable to register cu(FFT|DNN|BLAS) factory: ",
    "computation placer already registered",
))  # fmt: skip
FAILED = "|".join((
    "OP_REQUIRES failed at|Local rendezvous is aborting|^[[:space:]]*\\[\\[\\{\\{node ",
    "oneDNN supports DT_[A-Z0-9]+ only on platforms with",
))  # fmt: skip
"""Lines, as an extended regular expression, of an operation that this machine does not have: for
who only tries whether it does.
"""


def tells(record):
    """Whether a record of Python's logging is ours, or of what is wrong: TensorFlow tells of every
    checkpoint's microseconds by the same logger.
    """
    return record.levelno > logging.INFO or "/tensorflow/" not in record.pathname


class _Finder:
    """Finds TensorFlow where Python does, and has it load without idle lines."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def exec_module(module):
                with without(_IDLE):
                    load(module)

            spec.loader.exec_module = exec_module
        return spec


def install():
    """Has every `import tensorflow` of this process be quiet, whoever comes to it first."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


@contextlib.contextmanager
def without(lines):
    """Keeps lines that match from standard error, whoever in this process writes them there.

    Args:
      lines: an extended regular expression.
    """
    import subprocess  # not above: it takes longer than the rest

    grep = shutil.which("grep")
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        grep = None
    if not grep:
        yield
        return
    with os.fdopen(stderr, "wb") as kept:
        process = subprocess.Popen([grep, "-avE", lines], stdin=subprocess.PIPE, stdout=kept)
        os.dup2(process.stdin.fileno(), 2)
        process.stdin.close()
        try:
            yield
        finally:
            os.dup2(kept.fileno(), 2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)  # what it still holds comes before what is written next
