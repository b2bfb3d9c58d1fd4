"""Whoever does the work, the shards are the same; workers stay lean; errors stay one line.

Workers import this module, so it must not import TensorFlow.
"""

import functools
import importlib.util
import json
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

import pytest

from aepsl_tf import config
from aepsl_tf.data import records, runners
from aepsl_tf.data.runners import Beam, ordered_map, worker_count
from aepsl_tf.errors import InputError
from aepsl_tf.run_dir import RunDir
from data_prep import write_saliency, write_voc

ROOT = pathlib.Path(runners.__file__).parents[2]


@pytest.fixture
def no_patience(monkeypatch):
    """The pool starts at the second item."""
    monkeypatch.setattr(runners, "PATIENCE", 0.0)


# ------------------------------------------------------------------------------------- the pool


def probe(number):
    """Early items are slow, so that a pool that did not keep order would show."""
    if number < 3:
        time.sleep(0.3)
    if number == 99:
        raise InputError("ninety-nine")
    if number == 666:
        os.kill(os.getpid(), signal.SIGKILL)
    return number, "tensorflow" in sys.modules, os.getpid(), sys.modules["__main__"].__name__


def test_two_workers_keep_order_without_tensorflow_or_our_main(no_patience):
    main = sys.modules["__main__"]
    before = main.__spec__, getattr(main, "__file__", None)
    rows = list(ordered_map(probe, range(12), 2))
    assert [number for number, *_ in rows] == list(range(12))
    assert rows[0][2] == os.getpid()  # one item was done before there was a pool
    assert not any(loaded for _, loaded, _, _ in rows[1:])
    pids = {pid for _, _, pid, _ in rows[1:]}
    assert os.getpid() not in pids and len(pids) <= 2
    assert {name for *_, name in rows} == {"__main__"}  # not "__mp_main__": main was not run again
    assert (main.__spec__, getattr(main, "__file__", None)) == before
    assert not multiprocessing.active_children()


def test_short_work_starts_no_pool():
    rows = list(ordered_map(probe, [5, 6, 7], 2))
    assert {pid for _, _, pid, _ in rows} == {os.getpid()}


def test_an_error_in_a_worker_reaches_the_caller(no_patience):
    with pytest.raises(InputError, match=r"^ninety-nine$"):
        list(ordered_map(probe, [5, 6, 99, 7], 2))
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_one_line(no_patience):
    with pytest.raises(InputError, match="a worker process was killed") as error:
        list(ordered_map(probe, [5, 6, 666, 7], 2))
    assert "\n" not in str(error.value)


def test_items_are_read_only_a_little_ahead(no_patience):
    read = []
    results = ordered_map(probe, (read.append(i) or i for i in range(100, 200)), 2)
    next(results), next(results)
    assert len(read) <= 2 + 4 * 2
    results.close()
    assert not multiprocessing.active_children()


class NothingError(Exception):
    """Is false in a condition."""

    def __len__(self):
        return 0


class TwoWordsError(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def quick(number):
    """−1 is wrong, −2 ends with an exception that is pickled in its own way, −4 takes long."""
    if number == -1:
        raise InputError("minus one")
    if number == -2:
        json.loads("{")
    if number == -3:
        raise NothingError
    if number == -4:
        time.sleep(0.05)
    if number == -5:
        raise TwoWordsError("here", "there")
    return number


@pytest.fixture
def submitted(monkeypatch):
    """How many items each task has that the pool is given."""
    sizes, submit = [], ProcessPoolExecutor.submit
    monkeypatch.setattr(
        ProcessPoolExecutor, "submit",
        lambda pool, *call: sizes.append(len(call[-1])) or submit(pool, *call),
    )  # fmt: skip
    return sizes


def test_short_work_is_handed_over_several_items_at_a_time(no_patience, submitted):
    assert list(ordered_map(quick, range(1001), 2)) == list(range(1001))
    assert submitted[:9] == [1] * 9  # until it is known that they are short
    assert set(submitted[20:-1]) == {4}
    assert sum(submitted) == 1000


def test_long_work_after_short_is_handed_over_one_by_one(no_patience, submitted):
    items = [*range(100), *[-4] * 40]
    assert list(ordered_map(quick, items, 2)) == items
    assert submitted.count(4) > 5 and set(submitted[-8:]) == {1}


def test_short_items_are_read_only_a_little_ahead(no_patience):
    read = []
    results = ordered_map(quick, (read.append(i) or i for i in range(1000)), 2)
    for _ in range(400):
        next(results)
    assert len(read) <= 400 + 4 * (2 * 2 + 1)
    results.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("bad", "error"), [
    (-1, InputError), (-2, json.JSONDecodeError), (-3, NothingError), (-5, RuntimeError),
])  # fmt: skip
def test_what_comes_before_an_error_within_a_task_is_not_lost(no_patience, submitted, bad, error):
    before, seen = range(502), []
    with pytest.raises(error) as raised:
        for number in ordered_map(quick, [*before, bad, *before], 2):
            seen.append(number)
    assert seen == list(before) and submitted[-1] == 4
    told = "".join(traceback.format_exception(raised.value))
    assert ("in quick" in told) == (error is not InputError)  # where it was, in the other process
    assert not multiprocessing.active_children()


def test_one_worker_works_here_and_is_lazy():
    rows = list(ordered_map(probe, [3, 4], 1))
    assert [(number, pid) for number, _, pid, _ in rows] == [(3, os.getpid()), (4, os.getpid())]
    seen = []
    next(ordered_map(seen.append, range(5), 1))
    assert seen == [0]


def test_worker_count():
    assert worker_count(3) == 3
    assert worker_count(0) == len(os.sched_getaffinity(0))


# ------------------------------------------------------------------------------------ the choice


def test_choice():
    assert runners.choose("local", 3, "") == 3
    with pytest.raises(InputError, match="--runner=cloud: expected local or beam"):
        runners.choose("cloud", 1, "")
    with pytest.raises(InputError, match="--beam_args=--runner=X needs --runner=beam"):
        runners.choose("local", 1, "--runner=X")


def test_missing_beam_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed.*requirements-scale\.txt"):
        runners.choose("beam", 2, "")


@pytest.mark.scale
def test_beam_arguments():
    assert "--direct_num_workers=2" in runners.choose("beam", 2, "").options()
    chosen = runners.choose("beam", 3, "--runner=FlinkRunner --name='a b'")
    assert chosen.options()[-2:] == ["--runner=FlinkRunner", "--name=a b"]
    assert worker_count(chosen) == 3


# ------------------------------------------------------------------- one family, whoever writes it

COUNTS = [3, 2, 2, 1]


def numbers(shard):
    start = sum(COUNTS[:shard])
    return range(start, start + COUNTS[shard])


def mask_of(log, number):
    """A row; says in `log` that it was made, and where."""
    pathlib.Path(log, f"{number}-{os.getpid()}-{'tensorflow' in sys.modules}").touch()
    if number == 6:
        bad = pathlib.Path(log, "bad")
        if bad.exists():
            raise InputError("image 6: bad input; mend it")
    return {"image/id": f"i{number}", "mask/png": bytes([number]) * 1000}


def content(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir()}


@pytest.fixture
def write(tmp_path, no_patience):
    """`write(name, workers)` → (folder, the log's entries as (number, pid, has TensorFlow))."""

    def write(name, workers, **options):
        directory, log = tmp_path / name, tmp_path / f"{name}_log"
        directory.mkdir(exist_ok=True)
        log.mkdir(exist_ok=True)
        make = functools.partial(mask_of, log)
        for entry in log.glob("*-*"):
            entry.unlink()
        records.write_family(directory, "masks", COUNTS, numbers, make, workers, **options)
        return directory, sorted(tuple(p.name.split("-")) for p in log.glob("*-*"))

    return write


@pytest.fixture(params=["pool", pytest.param("beam", marks=pytest.mark.scale)])
def runner(request):
    return 2 if request.param == "pool" else Beam(2)


def test_the_bytes_are_those_of_the_sequential_run(write, runner):
    one, _ = write("one", 1)
    two, log = write("two", runner)
    assert content(one) == content(two)
    assert [number for number, _, _ in log] == [str(n) for n in range(8)]
    elsewhere = [(pid, loaded) for _, pid, loaded in log if pid != str(os.getpid())]
    assert {loaded for _, loaded in elsewhere} == {"False"}
    assert len({pid for pid, _ in elsewhere}) == 2


@pytest.mark.scale
def test_staged_items_need_not_be_picklable(write, tmp_path):
    one, _ = write("one", 1)
    directory = tmp_path / "staged"
    directory.mkdir()
    (tmp_path / "log").mkdir()
    make = functools.partial(mask_of, tmp_path / "log")
    seen = []

    def here(shard):
        seen.append(shard)
        yield from numbers(shard)

    records.write_family(directory, "masks", COUNTS, here, make, Beam(2), staged=True)
    assert seen == [0, 1, 2, 3]
    assert content(one) == content(directory)


def test_a_rerun_makes_only_missing_shards(write, runner):
    one, _ = write("one", 1)
    two, _ = write("two", runner)
    kept = two / records.shard_name("masks", 0, 4)
    before = kept.stat().st_mtime_ns
    (two / records.shard_name("masks", 1, 4)).unlink()
    (two / "writing-killed").mkdir()  # an earlier try's folder, with half a shard
    (two / "writing-killed" / "half").write_bytes(b"x")
    _, log = write("two", runner)
    assert [number for number, _, _ in log] == ["3", "4"]
    assert kept.stat().st_mtime_ns == before
    assert content(one) == content(two)


def test_bad_input_in_a_worker_is_one_line(write, runner, tmp_path):
    (tmp_path / "two_log").mkdir()
    (tmp_path / "two_log" / "bad").touch()
    with pytest.raises(InputError, match=r"^image 6: bad input; mend it$"):
        write("two", runner)
    assert not (tmp_path / "two" / "family.json").exists()
    assert not (tmp_path / "two" / records.shard_name("masks", 2, 4)).exists()
    (tmp_path / "two_log" / "bad").unlink()
    one, _ = write("one", 1)
    two, _ = write("two", runner)
    assert content(one) == content(two)


@pytest.mark.parametrize("found", [[2, 2, 2, 1], [3, 2, 2, 2]])
def test_a_shard_of_another_length_is_refused(tmp_path, runner, found):
    items = functools.partial(_wrong_numbers, found)
    make = functools.partial(mask_of, tmp_path)
    (tmp_path / "family").mkdir()
    with pytest.raises(InputError, match=r"expected \d images, got"):
        records.write_family(tmp_path / "family", "masks", COUNTS, items, make, runner)
    wrong = next(i for i in range(4) if found[i] != COUNTS[i])
    assert not (tmp_path / "family" / records.shard_name("masks", wrong, 4)).exists()


def _wrong_numbers(found, shard):
    return range(found[shard])


# ---------------------------------------------------------------------------- whole command lines


_WITHOUT_PATIENCE = """
import runpy, sys
from aepsl_tf.data import runners
runners.PATIENCE = 0.0
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def _command(module, *flags):
    """`python -m module flags`, but the pool starts at the second image."""
    return [sys.executable, "-c", _WITHOUT_PATIENCE, module, *flags]


def _families(root):
    folders = [p for p in (root / "data/train").iterdir() if p.is_dir()]
    return {f"{f.name}/{name}": data for f in folders for name, data in content(f).items()}


def _runner_flags(runner):
    return ["--workers=2", "--runner=beam"] if isinstance(runner, Beam) else ["--workers=2"]


def test_command_lines_give_the_bytes_of_the_sequential_run(devkit, tmp_path, runner):
    """Also that workers find the functions of a module which is `__main__` to its own process."""
    voc, split = f"--voc_root={devkit}", "--split=train"
    for name, flags in {"one": ["--workers=1"], "two": _runner_flags(runner)}.items():
        for command in (
            _command("data_prep.write_voc", f"--run_dir={tmp_path / name}", voc, split, *flags),
            _command("data_prep.write_saliency", f"--run_dir={tmp_path / name}", *flags),
        ):
            done = subprocess.run(command, cwd=ROOT, timeout=120,
                                  capture_output=True, text=True)  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
    one, two = _families(tmp_path / "one"), _families(tmp_path / "two")
    assert len(one) == 27  # three families of four shards, their indexes and a family.json
    assert one == two
    digests = [
        {k: v["digest"] for k, v in RunDir(tmp_path / name).manifest().items()}
        for name in ("one", "two")
    ]
    assert digests[0] == digests[1]


def test_command_line_tells_a_worker_s_error_in_one_line(small_devkit, tmp_path, runner):
    path = small_devkit / "JPEGImages/d.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    command = _command("data_prep.write_voc", f"--run_dir={tmp_path / 'run'}",
                       f"--voc_root={small_devkit}", *_runner_flags(runner))  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {path}: not a readable picture")
    assert not (tmp_path / "run/data/train/images").exists()


_SLOW = """
import sys, time
from aepsl_tf.data import encoding
from aepsl_tf import config
from aepsl_tf.data import runners
from aepsl_tf.run_dir import RunDir
from data_prep import write_saliency
from data_prep.saliency import methods
import test_runners

if __name__ == "__main__":
    runners.PATIENCE = 0.0
    workers = runners.choose(sys.argv[2], 2, "")
    methods.build = test_runners.slow_method
    write_saliency.run(config.WriteSaliency(), RunDir(sys.argv[1]), workers)
"""


def slow_method(*args, **kwargs):
    """In place of `methods.build`: a method that takes its time."""
    return _slow_map


def _slow_map(image_id, image):
    time.sleep(0.15)
    return image[..., 0] / 255.0


def test_killed_within_a_shard_and_resumed(devkit, tmp_path, runner, monkeypatch):
    """kill -9 hits the main process once the second shard is begun."""
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        settings = config.WriteVoc(voc_root=str(devkit), shards=6)
        write_voc.run(settings, RunDir(root), 1)
    script = tmp_path / "slow.py"
    script.write_text(_SLOW)
    paths = os.pathsep.join(
        [str(ROOT), str(pathlib.Path(__file__).parent), *filter(None, sys.path)]
    )
    name = "beam" if isinstance(runner, Beam) else "local"
    process = subprocess.Popen(
        [sys.executable, str(script), str(roots[1]), name], cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    partial = roots[1] / "data/train/saliency.partial"
    until = time.monotonic() + 60
    while not list(partial.glob("*.tfrecord")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    threads = pathlib.Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [child for thread in threads for child in thread.read_text().split()]
    assert children
    process.kill()
    process.wait()
    while any(pathlib.Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < until  # workers end by themselves
        time.sleep(0.05)
    done = {p.name: p.stat().st_mtime_ns for p in partial.glob("*.tfrecord")}
    assert 1 <= len(done) < 6

    monkeypatch.setattr("data_prep.saliency.methods.build", slow_method)
    for root in roots:
        write_saliency.run(config.WriteSaliency(), RunDir(root), 1)
    assert _families(roots[0]) == _families(roots[1])
    family = roots[1] / "data/train/saliency"
    assert {k: (family / k).stat().st_mtime_ns for k in done} == done


def test_data_preparation_does_not_load_tensorflow():
    code = (
        "import sys, data_prep.write_voc, data_prep.write_saliency, data_prep.write_erased, "
        "aepsl_tf.phases.make_masks; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_manifest_does_not_know_the_runner(devkit, tmp_path, runner):
    settings = config.WriteVoc(voc_root=str(devkit))
    write_voc.run(settings, RunDir(tmp_path), 1)
    before = json.loads((tmp_path / "manifest.json").read_text())
    write_voc.run(settings, RunDir(tmp_path), runner)  # finished: nothing to do for any runner
    assert json.loads((tmp_path / "manifest.json").read_text()) == before
