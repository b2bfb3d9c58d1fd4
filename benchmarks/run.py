"""All benchmarks, or some: into docs/benchmarks.md, or as a short check against that page.

python -m benchmarks.run --devkit=VOCdevkit/VOC2012 --only=training,reader
python -m benchmarks.run --devkit=VOCdevkit/VOC2012 --check

Each is the command of the same name, in a process of its own; what it prints stands on the page
between its marks. The check repeats a part of them, smaller, in under seven minutes. A row's bound
is its ratio on the page, the last cell; the check fails where one is 15% worse, and without
PyTorch. On a machine that is not the page's it says so first. Run either on a quiet machine.
"""

import argparse
import importlib.util
import pathlib
import re
import shlex
import subprocess
import sys
import time

from benchmarks import machine

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
SLACK = 1.15

BENCHMARKS = {
    "training": "--batches=2,4,8 --steps=1 --rounds=3",
    "layers": "--batch=4 --precision=auto --kernel_gradients=taps",
    "input": "--devkit={devkit} --images=160 --input_size=225 --precision=auto --batch=8 --steps=2 "
    "--rounds=3",
    "reader": "{devkit} --images=60 --runs=3 --input=warp --input_size=225 --precision=auto "
    "{older}",
    "processes": "{devkit} --images=400 --rounds=3 {onnx}",
    "memory": "--devkit={devkit} --images=500 --times=100 --side=100",
    "cost": "{devkit}",
}
"""Name → its arguments on the page."""

CHECKS = {
    "training": ("--batches=2 --auto --steps=1 --rounds=2",
                 ["segmenter, B = 2", "classifier, B = 2"]),
    "input": ("--devkit={devkit} --images=48 --input_size=225 --precision=auto --batch=8 --steps=2 "
              "--rounds=2 --rows=frozen,head",  # of each source the fastest
              ["records, warp, frozen", "cache, a head of 256 channels"]),
    "reader": ("{devkit} --images=24 --runs=1 --input=warp --input_size=225 --precision=auto",
               ["mine_regions", "evaluate", "predict"]),
    "processes": ("{devkit} --images=80 --onnx_images=40 --write_images=3000 --rounds=1 {onnx}",
                  ["CRF", "DRFI", "ONNX saliency", "write_voc"]),
}  # fmt: skip
"""Name → its arguments in the check, and what the rows that count begin with. Of several rows the
best counts: on the page of a train step's ways, of which the check has auto's alone.
"""


def ratios(text):
    """{row: its last cell's first number} of the tables in a benchmark's output."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        number = re.match(r"-?\d+(\.\d+)?", cells[-1])
        if line.startswith("|") and number:
            found[cells[0]] = float(number[0])
    return found


def run(name, arguments):
    """Runs a benchmark, showing what it prints; returns that."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *shlex.split(arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        raise SystemExit(f"error: {' '.join(command[1:])} failed; its message is above")
    return "".join(lines)


def between_marks(page, name):
    """What stands (before, between, after) a benchmark's marks, each with its mark.

    Raises:
      SystemExit: the page has no such marks.
    """
    first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    if first not in page or last not in page:
        raise SystemExit(f"error: {PAGE} has no {first.strip()}")
    before, _, rest = page.partition(first)
    between, _, after = rest.partition(last)
    return before + first, between, last + after


def onto_page(page, name, arguments, text):
    """The page with a benchmark's command and output between its marks."""
    before, _, after = between_marks(page, name)
    return f"{before}```\npython -m benchmarks.{name} {arguments}\n```\n\n{text.strip()}\n{after}"


def check(name, rows, found, page):
    """Prints each row's ratio beside its bound; returns the rows that are missing or too bad.

    Args:
      rows: what their names begin with.
      found, page: `ratios` of the check and of the page. Those of "training" are of times, and
        better where they are less; all others are of rates.
    """
    best, bad = min if name == "training" else max, []
    for begins in rows:
        value, bound = (best((v for row, v in table.items() if row.startswith(begins)), default=0)
                        for table in (found, page))  # fmt: skip
        worse = value / (bound or 1) if name == "training" else bound / (value or 1)
        fails = not (value and bound) or worse > SLACK
        print(f"{name}, {begins}: {value:.2f}, on the page {bound:.2f}: "
              f"{'worse by more than 15%, or missing' if fails else 'holds'}")  # fmt: skip
        bad += [begins] * fails
    return bad


def checked(only, values):
    """Runs the check, or some of it; returns the rows that are missing or too bad."""
    names = [name for name in CHECKS if not only or name in only]
    if "training" in names and not importlib.util.find_spec("torch"):
        rest = ",".join(name for name in CHECKS if name != "training")
        raise SystemExit("error: there is no PyTorch to compare with: pip install torch==2.13.0, "
                         f"or do without by --only={rest}")  # fmt: skip
    bad, start, page = [], time.monotonic(), PAGE.read_text()
    for name in names:
        if machine() not in between_marks(page, name)[1]:
            print(f"{name}: {machine()} is not the page's machine, whose bounds may not hold here")
        begun, (given, rows) = time.monotonic(), CHECKS[name]
        if name == "processes" and not values["onnx"]:
            rows = [row for row in rows if row != "ONNX saliency"]
            print("ONNX saliency is left out: no --onnx_model")
        found = ratios(run(name, given.format(**values)))
        print(f"{name}: {time.monotonic() - begun:.0f} s")
        bad += check(name, rows, found, ratios(between_marks(page, name)[1]))
    print(f"{time.monotonic() - start:.0f} s in all")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devkit", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="benchmarks by their names, by commas")
    parser.add_argument("--onnx_model", default="", help="for processes")
    parser.add_argument("--against", default="", help="an older checkout, for reader")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    onnx, older = (p and str(pathlib.Path(p).resolve())
                   for p in (arguments.onnx_model, arguments.against))  # fmt: skip
    values = {"devkit": shlex.quote(str(arguments.devkit.resolve()))}
    values["onnx"] = f"--onnx_model={shlex.quote(onnx)}" if onnx else ""
    values["older"] = f"--against={shlex.quote(older)}" if older else ""
    only = [name for name in arguments.only.split(",") if name]
    known = CHECKS if arguments.check else BENCHMARKS
    if unknown := set(only) - set(known):
        parser.error(f"--only={arguments.only}: no benchmark {', '.join(sorted(unknown))}; there "
                     f"are {', '.join(known)}")  # fmt: skip
    if arguments.check:
        sys.exit(1 if checked(only, values) else 0)
    for name, given in BENCHMARKS.items():
        if not only or name in only:
            text = run(name, given.format(**values))
            # On the page what lies somewhere here has a plain name.
            plain = {values["devkit"]: "VOC2012", onnx and shlex.quote(onnx): "u2netp.onnx",
                     older and shlex.quote(older): "OLDER", sys.executable: "python"}  # fmt: skip
            shown = given.format(**values).strip()
            for here in sorted(filter(None, plain), key=len, reverse=True):  # one may lie in one
                text, shown = (t.replace(here, plain[here]) for t in (text, shown))
            text = re.sub(r": Namespace\(.*\)$", "", text, flags=re.M)  # the command says it
            PAGE.write_text(onto_page(PAGE.read_text(), name, shown, text))


if __name__ == "__main__":
    main()
