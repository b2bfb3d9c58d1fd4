"""Tables on standard output, by rich: what a terminal has no room for is folded, nothing is cut."""

import sys

from aepsl_tf.evaluation.metrics import BACKGROUND_THRESHOLDS


def show(columns, rows):
    """Prints a table, in Markdown's form and with an empty line before and after.

    Args:
      columns: their names; the first one's cells are names, the others' numbers.
      rows: texts, as many a row as there are columns; without any, nothing is printed.
    """
    if not rows:
        return
    import rich.box
    import rich.console
    import rich.table

    table = rich.table.Table(box=rich.box.MARKDOWN)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    # A file or a pipe has no width: each line whole.
    width = None if sys.stdout.isatty() else 10_000
    rich.console.Console(width=width, markup=False, emoji=False, highlight=False).print(table)


def markdown(columns, rows):
    """The lines of a table for a Markdown file, of anything that has a text."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return [f"| {' | '.join(line)} |" for line in cells]


def show_segmentation(results_by_name, class_names):
    """Prints `Confusion.results`, a column a result, in percent: 21 classes are no line's width."""
    rows = [
        [title, *(_percent(result[key]) for result in results_by_name.values())]
        for title, key in (
            ("mIoU", "miou"), ("pixel accuracy", "pixel_accuracy"), ("labelled", "labelled_share")
        )
    ]  # fmt: skip
    rows += [
        [name, *(_percent(result["iou"][name]) for result in results_by_name.values())]
        for name in class_names
    ]
    show(["", *results_by_name], rows)


def show_saliency(results_by_name):
    """Prints `Saliency.results`, a column a result."""
    results = results_by_name.values()
    rows = [["images", *(str(result["images"]) for result in results)]]
    rows += [
        [title, *(number(result[key]) for result in results)]
        for title, key in (("MAE", "mae"), ("max Fβ", "max_f"))
    ]
    rows += [
        [f"background {kind} {t}",
         *(number(result[f"background_{kind}"].get(str(t))) for result in results)]
        for t in BACKGROUND_THRESHOLDS
        for kind in ("precision", "recall")
    ]  # fmt: skip
    show(["", *results_by_name], rows)


def _percent(share):
    return "–" if share is None else f"{100 * share:.1f}"


def number(value):
    """A share with three digits; – where nothing was counted."""
    return "–" if value is None else f"{value:.3f}"
