"""Where work on single images runs: in this process, in a pool of processes, or in Apache Beam.

`--workers=2` is passed to the phases as the number 2, `--runner=beam` as a `Beam`. No choice
changes a byte of what is written. Nothing here imports TensorFlow: a worker needs its function's
module alone, and TensorFlow would cost it seconds and half a gigabyte.
"""

import collections
import contextlib
import dataclasses
import importlib.util
import itertools
import logging
import multiprocessing
import os
import pickle
import shlex
import sys
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from aepsl_tf.errors import InputError

PATIENCE = 1.0  # seconds of work before a pool is worth its start, which takes about as long
SHORT = 0.005  # seconds of work on an item; with less, handing it over alone (.3 ms) costs much


def choose(runner, workers, beam_args):
    """--runner, --workers and --beam_args as phases take them: a number, or a `Beam`."""
    if runner not in ("local", "beam"):
        raise InputError(f"--runner={runner}: expected local or beam")
    if runner == "beam":
        return Beam(workers, beam_args)
    if beam_args:
        raise InputError(f"--beam_args={beam_args} needs --runner=beam")
    return workers


def worker_count(workers):
    """`--workers`: 0 means every core this process may use."""
    workers = getattr(workers, "workers", workers)
    return workers or len(os.sched_getaffinity(0))


def single_thread():
    """One OpenCV thread a worker: the workers already use every core."""
    with contextlib.suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)


# ------------------------------------------------------------------------------------- the pool


@contextlib.contextmanager
def _no_main():
    """Keeps spawned workers from importing the caller's main module.

    Left to itself a worker would import the command line that started it, and with that
    TensorFlow.
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


def _begin_worker():
    """A worker ends with its parent: killed hard, that could not tell it to."""
    single_thread()
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _several(function, items):
    """A task: (results of items as far as they go, seconds, what was raised then, where)."""
    results, start, ended = [], time.monotonic(), (None, "")
    for item in items:
        try:
            results.append(function(item))
        except Exception as error:
            ended = _as_it_arrives(error), traceback.format_exc()
            break
    return results, time.monotonic() - start, *ended


def _as_it_arrives(error):
    """The exception, or what tells of it where it would be lost between two processes."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))


def ordered_map(function, items, workers):
    """Yields `function(item)` in the order of items.

    Items whose work is short are handed over four at a time.

    Args:
      function: picklable, from a module that does not import TensorFlow.
      items: an iterable, read in this thread and a little ahead of the results.
      workers: processes; 0 takes all cores, 1 works in this process. A `Beam` counts as its
        number of workers: Beam writes families, all else stays on this machine.

    Raises:
      InputError: a worker was killed; besides, whatever `function` raises.
    """
    workers, items = worker_count(workers), iter(items)
    start = time.monotonic()
    for item in items:
        yield function(item)
        if workers > 1 and time.monotonic() - start >= PATIENCE:
            break
    at_once = 1
    tasks = iter(lambda: list(itertools.islice(items, at_once)), [])
    first = list(itertools.islice(tasks, 1))
    if not first:
        return
    # Fork is no choice: after TensorFlow has started its threads a forked child can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin_worker)
    waiting = collections.deque()

    def oldest():
        nonlocal at_once
        results, seconds, error, where = waiting.popleft().result()
        at_once = 4 if seconds < SHORT * len(results) else 1
        yield from results
        if error is not None:
            if not isinstance(error, InputError):  # which is one line
                error.add_note(where)
            raise error

    try:
        for task in itertools.chain(first, tasks):
            with _no_main():  # submitting starts the processes
                waiting.append(pool.submit(_several, function, task))
            while len(waiting) > (4 if at_once == 1 else 2) * workers:
                yield from oldest()  # as much as keeps them busy: items may be large
        while waiting:
            yield from oldest()
    except BrokenProcessPool:
        raise InputError(
            "a worker process was killed (out of memory?): give the same command again, perhaps "
            f"with fewer --workers than {workers}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def in_fresh_process(function, *arguments):
    """`function(*arguments)` in a process that has done nothing before; raises what it raises."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _begin_worker) as pool, _no_main():
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise InputError(
                "a process was killed (out of memory?): give the same command again"
            ) from None


# ----------------------------------------------------------------------------------------- Beam


@dataclasses.dataclass(frozen=True)
class Beam:
    """Apache Beam on any runner whose workers see the run's folder and this package.

    Attributes:
      workers: of Beam's local runner; 0 takes all cores.
      arguments: Beam's own pipeline options as on a command line; "" runs on this machine.
    """

    workers: int = 0
    arguments: str = ""

    def __post_init__(self):
        if importlib.util.find_spec("apache_beam") is None:
            raise InputError(
                "--runner=beam: Apache Beam is not installed; "
                "run pip install -r requirements-scale.txt, or use --runner=local"
            )

    def options(self):
        """All arguments as a list, with those of the local runner by default."""
        local = [
            "--runner=DirectRunner",
            "--direct_running_mode=multi_processing",
            f"--direct_num_workers={worker_count(self.workers)}",
        ]
        return [
            "--default_sdk_harness_log_level=WARNING",
            # We have no triggers. Without this the DirectRunner first tries to fetch another
            # program, which would run all shards in one process.
            "--allow_unsafe_triggers",
            *(shlex.split(self.arguments) or local),
        ]

    def run(self, task, elements, poll):
        """Calls `task(element)` for every element, each in some worker, in any order.

        Args:
          task: picklable; may be called twice for an element, as Beam retries.
          elements: a list.
          poll: called every second meanwhile, in a thread.
        """
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        logging.getLogger("apache_beam").setLevel(logging.ERROR)  # its warnings are not ours
        pipeline = beam.Pipeline(options=PipelineOptions(self.options()))
        # Reshuffle, for else Beam fuses the list with the work and gives it all to one worker.
        _ = pipeline | beam.Create(elements) | beam.Reshuffle() | beam.Map(task)
        ended = threading.Event()

        def watch():
            while not ended.wait(1.0):
                poll()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            with _python_path():
                pipeline.run().wait_until_finish()
        finally:
            ended.set()
            watcher.join()
        poll()


@contextlib.contextmanager
def _python_path():
    """Local Beam workers find modules where this process does, as those of a pool do."""
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        yield
    finally:
        if kept is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = kept
