"""What is shown of how far the work is: a bar on a terminal, lines in a log."""

import os
import pathlib
import pty
import re
import subprocess
import sys
import time

import pytest

from aepsl_tf import progress as module
from aepsl_tf.progress import Whole, clock, progress

ROOT = pathlib.Path(__file__).parents[1]


class Clock:
    """Time as the test has it."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def watch(monkeypatch):
    watch = Clock()
    monkeypatch.setattr(module, "time", watch)
    return watch


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(watch, capsys):
    with progress(200, "relabel", done=20) as bar:
        for _ in range(18):
            watch.now += 5
            bar.update(10)
        assert bar.n == 200
    assert capsys.readouterr().err.splitlines() == [
        "relabel: 80 of 200 images, 2.0 images/s, 0:01:00 left",
        "relabel: 140 of 200 images, 2.0 images/s, 0:00:30 left",
        "relabel: 200 of 200 images, 2.0 images/s",
        "relabel: 200 of 200 images, 2.0 images/s",
    ]


def test_the_rate_is_that_of_the_last_while_and_at_the_end_of_all(watch, capsys):
    bar = progress(10_000, "train")
    watch.now += 100  # what comes before the first step
    bar.update(1)
    for _ in range(80):
        watch.now += 2
        bar.update(4)
    assert bar.rate() == pytest.approx(2.0) and bar.left() == pytest.approx((10_000 - 321) / 2)
    bar.note("epoch 1 of 3: loss 0.123")
    bar.close()
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("train: 321 of 10000 images, 1.2 images/s")
    assert said.endswith("; epoch 1 of 3: loss 0.123")
    bar.close()
    assert capsys.readouterr().err == ""  # once is enough


def test_bytes_and_what_nobody_knows_the_end_of(watch, capsys):
    with progress(None, "VOC.tar", "B", done=1_000_000) as bar:
        watch.now += 2
        bar.update(3_000_000)
        assert bar.left() is None
    assert capsys.readouterr().err == "VOC.tar: 4.0 MB, 1.5 MB/s\n"
    with progress(4, "none yet") as bar:
        assert bar.text() == "none yet: 0 of 4 images"
    assert clock(3723.4) == "1:02:03"


def test_the_whole_says_more_than_where_a_kind_is_new(watch, capsys):
    took = {"train/1": 60.0}
    whole = Whole(["train/1", "mine/1", "train/2"], lambda key: took.get(key[:-1] + "1"))
    with whole.step("write/0"):  # not among what is to do
        assert whole.rows == []
    with whole.step("train/1"):
        watch.now += 10
        assert whole.text() == "step 1 of 3 (train/1): 0:00:10 gone, more than 0:01:50 left"
        with progress(100, "train/1") as bar:
            watch.now += 10
            bar.update(25)
            assert whole.text(bar) == "step 1 of 3 (train/1): 0:00:20 gone, more than 0:01:30 left"
            bar.update(75)
    took["mine/1"] = 5.0
    with whole.step("mine/1"):
        watch.now += 2
        assert whole.text() == "step 2 of 3 (mine/1): 0:00:22 gone, about 0:01:03 left"
    assert whole.rows == [["train/1", 10.0, 20.0], ["mine/1", None, 2.0]]


PROGRAM = """
import sys, time
from absl import logging
from aepsl_tf.progress import Whole, progress
logging.use_absl_handler()
logging.set_verbosity(logging.INFO)
logging.get_absl_handler().setFormatter(None)
whole = Whole(["relabel/a", "relabel/b"], lambda key: 60.0)
with whole.step("relabel/a"):
    with progress(30, "relabel") as bar:
        for i in range(30):
            time.sleep(0.05)
            if i == 15:
                logging.warning("a word of warning")
                print("a result")
                with progress(2, "within") as other:
                    other.update(2)
            bar.update()
print("a table")
sys.stderr.write("after\\n")
"""


def on_a_terminal(program, **environment):
    """(what a program shows on a terminal of 100 columns, what it writes to standard output)."""
    terminal = {"TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs,
        env=os.environ | terminal | environment,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    results, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    return shown.decode(), results.decode()


def test_a_terminal_gets_bars_and_standard_output_gets_none():
    shown, results = on_a_terminal(PROGRAM)
    assert results == "a result\na table\n"
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "step 1 of 2 (relabel/a)" in text and "about 0:0" in text
    assert re.search(r"relabel: [12]?\d of 30 images, [\d.]+ images/s, 0:00:0\d left\s", text)
    assert "within: 2 of 2 images" in text
    last = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert last[-1] == "after" and re.search(
        r"relabel: 30 of 30 images, [\d.]+ images/s$", last[-2]
    )
    assert "a word of warning" in last  # on a line of its own
    assert shown.rstrip().endswith("after") and "\x1b[?25h" in shown  # the cursor is back


SHORT = """
from aepsl_tf.progress import progress
with progress(2, "δ of step 1") as bar:
    bar.update(2)
print("a result")
"""


def test_a_terminal_of_another_encoding_gets_what_it_can_show():
    ascii_ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    shown, results = on_a_terminal(SHORT.replace("δ", "\\u03b4"), **ascii_)
    assert "\\u03b4 of step 1: 2 of 2 images" in shown and results == "a result\n"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    shown, _ = on_a_terminal(
        "from aepsl_tf import progress\nprogress.EVERY = 0" + SHORT, TERM="dumb"
    )
    lines = [line.partition(",")[0] for line in shown.splitlines()]
    assert lines == 2 * ["δ of step 1: 2 of 2 images"]


def test_without_standard_error_nothing_is_shown():
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", SHORT],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "a result\n")


def test_no_bar_costs_a_look_that_nobody_takes():
    start = time.perf_counter()
    with progress(100_000, "quick") as bar:
        for _ in range(100_000):
            bar.update()
    assert bar.n == 100_000 and time.perf_counter() - start < 5
