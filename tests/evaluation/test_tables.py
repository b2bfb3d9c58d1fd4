"""Tables: every number of every class is there, wherever they are printed."""

import io
import re
import sys

import pytest

from aepsl_tf.classes import VOC
from aepsl_tf.evaluation import tables


def segmentation(iou):
    """`Confusion.results` as far as a table shows them."""
    return {"miou": 0.5, "pixel_accuracy": 0.75, "labelled_share": 1.0, "iou": iou}


def printed_lines(capsys):
    """The lines of one table, without the empty ones around it."""
    before, *lines, after = capsys.readouterr().out.splitlines()
    assert not before.strip() and not after.strip()
    return lines


class Terminal(io.StringIO):
    """A terminal that a test can read."""

    def isatty(self):
        return True


def test_plain_table(capsys):
    tables.show(["", "mIoU"], [["psl", "12.0"], ["psl_plus_plus", "–"]])
    assert printed_lines(capsys) == [
        "|               | mIoU |",
        "|---------------|------|",
        "| psl           | 12.0 |",
        "| psl_plus_plus |    – |",
    ]


def test_segmentation_is_in_percent(capsys):
    tables.show_segmentation(
        {
            "psl": segmentation({"background": 0.5, "cat": 2 / 3, "dog": None}),
            "psl_crf": segmentation({"background": 1.0, "cat": 0, "dog": 0.125}),
        },
        ["background", "cat", "dog"],
    )
    lines = printed_lines(capsys)
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["", "psl", "psl_crf"]
    assert cells[2:] == [
        ["mIoU", "50.0", "50.0"], ["pixel accuracy", "75.0", "75.0"],
        ["labelled", "100.0", "100.0"], ["background", "50.0", "100.0"],
        ["cat", "66.7", "0.0"], ["dog", "–", "12.5"],
    ]  # fmt: skip


def test_a_row_for_each_of_21_classes_fits_80_columns(capsys):
    names = VOC.all_names()
    result = segmentation({name: index / 100 for index, name in enumerate(names)})
    tables.show_segmentation({"psl_plus_plus": result, "psl_plus_plus_crf": result}, names)
    lines = printed_lines(capsys)
    assert max(map(len, lines)) < 80
    for index, name in enumerate(names):
        assert any(line.startswith(f"| {name} ") and f"{index}.0 |" in line for line in lines)


@pytest.mark.parametrize("columns", [20, 60, 200])
def test_a_narrow_terminal_folds_and_cuts_nothing(monkeypatch, columns):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    tables.show(["model", "mIoU"], [["a_long_name_of_a_model", "0.123"]])
    lines = re.sub(r"\x1b\[\d*m", "", terminal.getvalue()).splitlines()
    assert all(len(line) <= columns for line in lines)
    rows = [line.split("|")[1:3] for line in lines if "|" in line]
    names, numbers = ("".join(c.strip() for c in column) for column in zip(*rows, strict=True))
    assert re.fullmatch("model-+a_long_name_of_a_model", names)
    assert re.fullmatch(r"mIoU-+0\.123", numbers)


def test_a_pipe_gets_wide_rows_whole(capsys):
    columns = ["", *(f"model_{i}_crf" for i in range(30))]
    tables.show(columns, [["mIoU", *(str(i) for i in range(30))]])
    header, _, row = printed_lines(capsys)
    assert header.split("|")[-2].strip() == "model_29_crf" and row.split("|")[-2].strip() == "29"


def test_names_are_no_markup(capsys):
    tables.show(["", "[red]", ":cat:"], [["[bold]a", "1", "2"]])
    printed = capsys.readouterr().out
    assert "[red]" in printed and ":cat:" in printed and "[bold]a" in printed


def test_saliency(capsys):
    found = {
        "images": 7, "without_object": 0, "mae": 0.1084, "max_f": 1.0,
        "background_precision": {"0.06": None, "0.12": 0.5}, "background_recall": {"0.06": 0.25},
    }  # fmt: skip
    tables.show_saliency({"drfi": found})
    lines = printed_lines(capsys)
    cells = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines[2:]}
    assert cells == {
        "images": "7", "MAE": "0.108", "max Fβ": "1.000",
        "background precision 0.06": "–", "background recall 0.06": "0.250",
        "background precision 0.12": "0.500", "background recall 0.12": "–",
    }  # fmt: skip
