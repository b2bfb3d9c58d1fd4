"""How far a piece of work is: a bar where somebody looks on, now and then a line in a log.

with progress(len(items), "relabel") as bar:
    bar.update()

Both say images per second and the time left; in a `Whole`, of several pieces, that of all of them
too. What is shown goes to standard error, so standard output holds results alone.
"""

import collections
import contextlib
import datetime
import os
import sys
import time

from absl import logging

EVERY = 30.0
"""Seconds between two lines in a log."""
_WINDOW = 60  # looks, a second apart at least, that the rate of the last while is taken over


def progress(total, description, unit="image", done=0):
    """A `Bar`, to be used as a context.

    Args:
      total: how many there are; None where nobody knows.
      unit: what is counted; B for bytes.
      done: how many of the total were there before.
    """
    return Bar(total, description, unit, done)


class Bar:
    """One piece of work.

    Attributes:
      n: how much of it is done.
    """

    def __init__(self, total, description, unit="image", done=0):
        self.total, self.description, self.unit, self.n = total, description, unit, done
        self._note, self._told = "", time.monotonic()
        self._first = self._told, done
        self._looks = collections.deque([self._first], _WINDOW)
        _screen.open(self)

    def update(self, count=1):
        """Counts so many more as done."""
        self.n += count
        now = time.monotonic()
        if now - self._looks[-1][0] >= 1:
            self._looks.append((now, self.n))
        if not _screen.shown and now - self._told >= EVERY:
            self._told = now
            _tell(self.text())

    def note(self, text):
        """Shows a text beside the numbers."""
        self._note = text

    def close(self):
        self._looks = collections.deque([self._first])  # the rate of all of it
        _screen.close(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def rate(self):
        """How many a second, over the last while; None before the first."""
        then, before = self._looks[0]
        seconds = time.monotonic() - then
        return (self.n - before) / seconds if self.n > before and seconds > 0 else None

    def left(self):
        """Seconds to the end, or None."""
        rate = self.rate()
        return max(self.total - self.n, 0) / rate if rate and self.total is not None else None

    def text(self):
        """In one line: what, how much of it, how fast, how long yet."""
        counted = self._counted(self.n)
        if self.total is not None:
            counted = f"{counted} of {self._counted(self.total)}"
        parts = [f"{counted} {'' if self.unit == 'B' else self.unit + 's'}".strip()]
        if rate := self.rate():
            parts.append(f"{self._counted(rate)}{'' if self.unit == 'B' else f' {self.unit}s'}/s")
        if self.n != self.total and (left := self.left()) is not None:
            parts.append(f"{clock(left)} left")
        return f"{self.description}: {', '.join(parts)}" + (f"; {self._note}" * bool(self._note))

    def _counted(self, number):
        if self.unit == "B":
            return f"{number / 1e6:.1f} MB"
        return f"{number:.1f}" if isinstance(number, float) else str(number)


class Whole:
    """A work of several steps: which one it is at, and how long it takes to the end of the last.

    Args:
      keys: of all steps that are to do, in order.
      seconds: `seconds(key)` that a step like this one took, or None where none is known.
    """

    def __init__(self, keys, seconds):
        self.keys, self.seconds = list(keys), seconds
        self.rows = []
        """[step, images a second or None, seconds] of those that were done, for a table."""
        self._begun, self._key = time.monotonic(), None
        self._rates = []

    @contextlib.contextmanager
    def step(self, key):
        """Around the work on a step; one that is not to do passes unseen."""
        if key not in self.keys:
            yield
            return
        self._key, self._since, self._rates = key, time.monotonic(), []
        self._expected = [self.seconds(key) for key in self.keys[self.keys.index(key) :]]
        _screen.whole = self
        logging.info("%s", self.text())
        try:
            yield
        finally:
            _screen.whole = self._key = None
        took = time.monotonic() - self._since
        self.rows.append([key, self._rates[-1] if self._rates else None, took])

    def closed(self, bar):
        """A bar of the step has ended; the last one is its main work."""
        if bar.unit == "image":
            self._rates.append(bar.rate())

    def text(self, bar=None):
        """In one line: the step's number, the time gone and left."""
        number, expected = self.keys.index(self._key), self._expected
        gone = time.monotonic() - self._since
        now = bar.left() if bar else None
        if now is None and expected[0] is not None:
            now = max(expected[0] - gone, 0.0)
        known = [seconds for seconds in (now, *expected[1:]) if seconds is not None]
        left = (
            f", {'about' if len(known) == len(expected) else 'more than'} {clock(sum(known))} left"
        )
        return (
            f"step {number + 1} of {len(self.keys)} ({self._key}): "
            f"{clock(time.monotonic() - self._begun)} gone{left if known else ''}"
        )


def clock(seconds):
    """1:02:03"""
    return str(datetime.timedelta(seconds=round(seconds)))


def _tell(line):
    if sys.stderr is not None:  # else it would go to standard output
        print(line, file=sys.stderr, flush=True)


def _can_show():
    """Whether standard error is a terminal that can move its cursor."""
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return sys.stderr is not None and sys.stderr.isatty() and not dumb


class _Screen:
    """What is on the terminal at the moment: the open bars, and below them where the whole is.

    Attributes:
      whole: the `Whole` that the bars belong to, or None.
      shown: whether there is a terminal that shows them.
    """

    def __init__(self):
        self.whole, self.bars, self._live, self._log = None, [], None, None

    @property
    def shown(self):
        return self._live is not None

    def open(self, bar):
        self.bars.append(bar)
        if not self._live and _can_show():
            self._start()

    def close(self, bar):
        if bar not in self.bars:  # closed before
            return
        if self.whole:
            self.whole.closed(bar)
        if not self._live:
            _tell(bar.text())
            self.bars.remove(bar)
        elif len(self.bars) > 1:
            self._live.console.print(self._row(bar))
            self.bars.remove(bar)
        else:
            self._stop()

    def _start(self):
        import rich.console
        import rich.live

        # A descriptor of its own: while TensorFlow tries something, that of standard error leads
        # elsewhere (`quiet`).
        file = os.fdopen(
            os.dup(sys.stderr.fileno()),
            "w",
            encoding=sys.stderr.encoding,
            errors="backslashreplace",
        )
        console = rich.console.Console(file=file, markup=False, emoji=False, highlight=False)
        self._live = rich.live.Live(
            console=console, get_renderable=self._rows, refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),
        )  # fmt: skip
        self._live.start()
        # What is logged meanwhile comes above the bars.
        self._log = logging.get_absl_handler().python_handler
        self._before = self._log.setStream(sys.stderr)

    def _stop(self):
        whole, self.whole = self.whole, None  # the bar stays on the terminal, this line does not
        live, self._live = self._live, None
        live.stop()
        self.bars.clear()
        self.whole = whole
        self._log.setStream(self._before or sys.stderr)
        live.console.file.close()

    def _rows(self):
        import rich.console

        rows = [self._row(bar) for bar in self.bars]
        if self.whole:
            rows.append(self.whole.text(self.bars[-1] if self.bars else None))
        return rich.console.Group(*rows)

    @staticmethod
    def _row(bar):
        import rich.progress_bar
        import rich.table
        import rich.text

        row = rich.table.Table.grid(padding=(0, 1))
        text = rich.text.Text(bar.text(), no_wrap=True, overflow="ellipsis")
        row.add_row(rich.progress_bar.ProgressBar(bar.total, bar.n, 24, pulse=False), text)
        return row


_screen = _Screen()
