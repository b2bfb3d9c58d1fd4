"""All benchmarks, or some: into docs/benchmarks.md, or as a short check against their bounds.

python -m benchmarks.run --devkit=VOCdevkit/VOC2012 --only=training,reader
python -m benchmarks.run --devkit=VOCdevkit/VOC2012 --check

Each is the command of the same name, in a process of its own; what it prints stands on the page
between its marks. A row's last cell is its ratio, against a peer or a limit of the same run. The
check takes about eight minutes, and fails where a ratio is 15% worse than its bound. Run either on
a quiet machine.
"""

import argparse
import importlib.util
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
SLACK = 1.15

BENCHMARKS = {
    "training": "--batches=4 --steps=1 --rounds=3",
    "layers": "--batch=4 --precision=mixed_bfloat16 --kernel_gradients=taps",
    "input": "--devkit={devkit} --images=160 --input_size=225 --precision=mixed_bfloat16 "
    "--batch=8 --steps=2 --rounds=3",
    "reader": "{devkit} --images=60 --runs=1 --input=warp --input_size=225 {older}",
    "processes": "{devkit} --images=100 --rounds=1 {onnx}",
    "memory": "--devkit={devkit} --images=500 --times=100 --side=100",
    "cost": "{devkit}",
}
"""Name → its arguments on the page."""

CHECKS = [
    ("training", "--kinds=segmenter --batches=2 --steps=1 --rounds=2", {
        "segmenter, B = 2": 1.0}),
    ("input", "--devkit={devkit} --images=64 --input_size=129 --batch=8 --steps=2 --rounds=3", {
        "records, crop": 0.95, "records, warp": 0.95, "records, warp, frozen": 0.95,
        "cache": 0.9, "cache, a head of 256 channels": 0.85}),
    ("reader", "{devkit} --images=16 --runs=1 --input=warp --input_size=225", {
        "mine_regions": 0.95, "evaluate": 0.9, "predict": 0.9}),
    ("processes", "{devkit} --images=40 --write_images=100 --rounds=1", {
        "CRF": 1.7, "DRFI": 1.5}),
]  # fmt: skip
"""(benchmark, arguments, {row, or the beginning of several of which the best counts: bound}).

Bounds are least ratios; of "training", whose ratios are of times, they are most.
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
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments.split()]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    if process.wait():
        raise SystemExit(f"error: {' '.join(command[1:])} failed; its message is above")
    return "".join(lines)


def onto_page(page, name, arguments, text):
    """The page with a benchmark's command and output between its marks.

    Raises:
      SystemExit: the page has no such marks.
    """
    first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    if first not in page or last not in page:
        raise SystemExit(f"error: {PAGE} has no {first.strip()}")
    before, _, rest = page.partition(first)
    after = rest.partition(last)[2]
    shown = f"```\npython -m benchmarks.{name} {arguments}\n```\n\n{text.strip()}\n"
    return f"{before}{first}{shown}{last}{after}"


def check(name, bounds, found):
    """Prints each bound beside what was found; returns the rows that are too bad."""
    bad = []
    for begins, bound in bounds.items():
        values = [found[begins]] if begins in found else [
            value for row, value in found.items() if row.startswith(begins)
        ]  # fmt: skip
        if not values:
            without = name == "training" and not importlib.util.find_spec("torch")
            print(f"{name}, {begins}: not measured{', there is no PyTorch' * without}")
            bad += [begins] * (not without)
            continue
        most = name == "training"
        value = min(values) if most else max(values)
        fails = value > bound * SLACK if most else value < bound / SLACK
        print(f"{name}, {begins}: {value:.2f}, {'at most' if most else 'at least'} {bound:.2f}: "
              f"{'worse by more than 15%' if fails else 'holds'}")  # fmt: skip
        bad += [begins] * fails
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devkit", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="", help="benchmarks by their names, by commas")
    parser.add_argument("--onnx_model", default="", help="for processes")
    parser.add_argument("--against", default="", help="an older checkout, for reader")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    onnx = arguments.onnx_model
    values = {"devkit": str(arguments.devkit.resolve())}
    values["onnx"] = f"--onnx_model={onnx}" if onnx else ""
    values["older"] = f"--against={arguments.against}" if arguments.against else ""
    only = [name for name in arguments.only.split(",") if name]
    if unknown := set(only) - set(BENCHMARKS):
        parser.error(f"--only={arguments.only}: no benchmark {', '.join(sorted(unknown))}; there "
                     f"are {', '.join(BENCHMARKS)}")  # fmt: skip
    if arguments.check:
        bad, start = [], time.monotonic()
        for name, given, bounds in CHECKS:
            if not only or name in only:
                if name == "training" and not importlib.util.find_spec("torch"):
                    given += " --torch="
                begun = time.monotonic()
                found = ratios(run(name, given.format(**values)))
                print(f"{name}: {time.monotonic() - begun:.0f} s")
                bad += check(name, bounds, found)
        print(f"{time.monotonic() - start:.0f} s in all")
        sys.exit(1 if bad else 0)
    for name, given in BENCHMARKS.items():
        if not only or name in only:
            text = run(name, given.format(**values))
            # On the page what lies somewhere here has a plain name.
            plain = {values["devkit"]: "VOC2012", onnx: "u2netp.onnx", arguments.against: "OLDER",
                     sys.executable: "python"}  # fmt: skip
            shown = given.format(**values).strip()
            for here, there in ((k, v) for k, v in plain.items() if k):
                text, shown = text.replace(here, there), shown.replace(here, there)
            text = re.sub(r": Namespace\(.*\)$", "", text, flags=re.M)  # the command says it
            PAGE.write_text(onto_page(PAGE.read_text(), name, shown, text))


if __name__ == "__main__":
    main()
