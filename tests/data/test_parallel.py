"""The pool keeps order and its workers stay lean; this module must not import TensorFlow."""

import multiprocessing
import os
import sys
import time

import pytest

from aepsl_tf.data.parallel import ordered_map, worker_count


def probe(number):
    """Early items are slow, so that a pool that did not keep order would show."""
    if number < 2:
        time.sleep(0.3)
    if number == 99:
        raise ValueError("ninety-nine")
    return number, "tensorflow" in sys.modules, os.getpid(), sys.modules["__main__"].__name__


def test_two_workers_keep_order_without_tensorflow_or_our_main():
    main = sys.modules["__main__"]
    before = main.__spec__, getattr(main, "__file__", None)
    rows = list(ordered_map(probe, range(12), 2))
    assert [number for number, *_ in rows] == list(range(12))
    assert not any(loaded for _, loaded, _, _ in rows)
    pids = {pid for _, _, pid, _ in rows}
    assert os.getpid() not in pids and len(pids) <= 2
    assert {name for *_, name in rows} == {"__main__"}  # not "__mp_main__": main was not run again
    assert (main.__spec__, getattr(main, "__file__", None)) == before
    assert not multiprocessing.active_children()


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(ValueError, match="ninety-nine"):
        list(ordered_map(probe, [5, 99, 6], 2))


def test_one_worker_works_here():
    rows = list(ordered_map(probe, [3, 2], 1))
    assert [(number, pid) for number, _, pid, _ in rows] == [(3, os.getpid()), (2, os.getpid())]


def test_one_worker_is_lazy():
    seen = []
    results = ordered_map(seen.append, range(5), 1)
    next(results)
    assert seen == [0]


def test_worker_count():
    assert worker_count(3) == 3
    assert worker_count(0) == len(os.sched_getaffinity(0))
