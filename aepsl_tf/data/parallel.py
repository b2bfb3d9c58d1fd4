"""Work on single images in a pool of spawned processes, in order."""

import contextlib
import multiprocessing
import os
import sys


@contextlib.contextmanager
def _no_main():
    """Keeps spawned workers from importing the caller's main module.

    A worker needs its function's module alone. Left to itself it would import the command line
    that started it too, and with that TensorFlow: seconds and a gigabyte a worker, for nothing.
    """
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name, None) for name in ("__spec__", "__file__")}
    main.__spec__ = None
    main.__file__ = None
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


def worker_count(workers):
    """`--workers`: 0 means every core this process may use."""
    return workers or len(os.sched_getaffinity(0))


def ordered_map(function, items, workers):
    """Yields `function(item)` in the order of items.

    Args:
      function: picklable; its module should not import TensorFlow.
      items: an iterable, read as workers need it.
      workers: processes; 0 takes all cores, 1 works in this process.
    """
    workers = worker_count(workers)
    if workers == 1:
        yield from map(function, items)
        return
    # Fork is no choice: after TensorFlow has started its threads a forked child can deadlock.
    with _no_main():
        pool = multiprocessing.get_context("spawn").Pool(workers, _single_thread)
    with pool:
        yield from pool.imap(function, items)


def _single_thread():
    """One OpenCV thread a worker: the pool already uses every core."""
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)
