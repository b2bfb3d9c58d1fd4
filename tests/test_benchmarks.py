"""The benchmarks that nothing else runs do run, on next to nothing."""

import subprocess
import sys

import pytest

from benchmarks import processes, run


def test_processes(devkit, monkeypatch, capsys):
    arguments = [
        "processes",
        str(devkit),
        "--images=2",
        "--write_images=3",
        "--rounds=1",
        "--workers=1",
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    processes.main()
    rows = [line.split(" |")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"| CRF", "| DRFI", "| write_voc, 3 images"} <= set(rows)


TABLE = """two cores

| step | ours | seconds, ours / PyTorch |
|---|---:|---:|
| segmenter, B = 2, float32 | 0.7 | 1.74 (1.71 to 2.07) |
| segmenter, B = 2, mixed_bfloat16 | 1.3 | 0.95 (0.94 to 0.97) |
| classifier, B = 2 | 1.3 | – |
"""


def test_ratios_are_the_last_cells():
    found = run.ratios(TABLE)
    assert found == {"segmenter, B = 2, float32": 1.74, "segmenter, B = 2, mixed_bfloat16": 0.95}


@pytest.mark.parametrize(("name", "bound", "fails"), [
    ("training", 0.83, False), ("training", 0.82, True),  # times: 15% more at most
    ("reader", 2.0, False), ("reader", 2.01, True),  # rates: 15% less
])  # fmt: skip
def test_a_ratio_that_is_worse_by_15_percent_fails(name, bound, fails, capsys):
    bad = run.check(name, {"segmenter, B = 2": bound}, run.ratios(TABLE))
    assert bad == ["segmenter, B = 2"] * fails
    assert run.check(name, {"another": bound}, {}) == []
    assert "another: not measured" in capsys.readouterr().out


def test_every_benchmark_has_its_place_on_the_page():
    page = run.PAGE.read_text()
    for name in run.BENCHMARKS:
        changed = run.onto_page(page, name, "--much=1", "| a | 1.0 |\n")
        assert f"python -m benchmarks.{name} --much=1\n```\n\n| a | 1.0 |\n" in changed
        assert run.onto_page(changed, name, "--much=1", "| a | 1.0 |") == changed
    with pytest.raises(SystemExit, match="no <!-- other -->"):
        run.onto_page(page, "other", "", "")


def test_bench_check_wants_a_devkit():
    command = ["make", "--no-print-directory", "bench-check"]
    done = subprocess.run(command, cwd=run.ROOT, capture_output=True, text=True)
    assert done.returncode and "give DEVKIT=VOC2012" in done.stdout
