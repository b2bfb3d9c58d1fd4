"""The benchmarks that nothing else runs do run, on next to nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import cost, layers, processes, run, training, whole


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
def test_a_ratio_that_is_worse_by_15_percent_fails(name, bound, fails):
    bad = run.check(name, {"segmenter, B = 2": bound}, run.ratios(TABLE))
    assert bad == ["segmenter, B = 2"] * fails


def test_a_row_that_is_missing_fails_but_where_there_is_no_pytorch(monkeypatch, capsys):
    assert run.check("reader", {"another": 1.0}, {}) == ["another"]
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    assert run.check("training", {"another": 1.0}, {}) == []
    assert "another: not measured, there is no PyTorch" in capsys.readouterr().out


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


def test_training_and_its_limit(monkeypatch, capsys):
    options = ["--kinds=classifier", "--batches=1", "--size=33", "--steps=1", "--rounds=1"]
    monkeypatch.setattr(training, "WAYS", [("float32", "taps")])
    monkeypatch.setattr(sys, "argv", ["training", *options, "--torch="])
    training.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if "classifier, B = 1" in line]
    (row,) = rows
    assert 0 < float(row.split(" | ")[2]) < 2  # of the best convolution's rate


def test_gflop_are_those_of_the_taps_that_see_something():
    found = layers.convolutions(321, precision="float32", kernel_gradients="library")
    by_name = {one[0].name: layers.gflop(*one) for one in found}
    assert [one[1] for one in found][::2] == [321, 161, 81, 81, 41, 41, 41, 41]  # cells
    seen = (41 + 2 * 29) ** 2  # of 3 × 41 a side, where fc6 looks 12 cells away
    np.testing.assert_allclose(by_name["fc6"], 2e-9 * seen * 512 * 1024)
    np.testing.assert_allclose(by_name["fc7"], 2e-9 * 41**2 * 1024 * 1024)
    both = 3 * sum(by_name.values()) - by_name["block1_conv1"]
    np.testing.assert_allclose(layers.step_gflop(321), both)


def test_the_costs_add_up(monkeypatch, capsys):
    each = {"CRF": 0.3, "DRFI": 0.1, "write_voc": 0.01, "train step": 0.8, "forward": 0.2}
    monkeypatch.setattr(cost, "measured", lambda *_: each | {"precision": "float32"})
    monkeypatch.setattr(sys, "argv", ["cost", "VOC2012", "--images_of_split=3600"])
    cost.main()
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()
            if line.startswith("|")][2:]  # fmt: skip
    assert rows[2][:2] == ["train_classifier, step 1", "12.00"]  # 3600 images, 15 epochs of .8 s
    for column in (1, 2, 3):
        values = [float(row[column]) for row in rows]
        np.testing.assert_allclose(sum(values[:-1]), values[-1], atol=0.006 * len(rows))


_PIPELINE = """
import json, pathlib, sys
flags = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
pathlib.Path(flags["run_dir"]).mkdir()
(pathlib.Path(flags["run_dir"]) / "summary.json").write_text(json.dumps(SUMMARY | {"flags": flags}))
"""


def test_a_whole_run_of_two_checkouts(tmp_path, monkeypatch, capsys):
    trees = {
        "here": {"seconds": {"train/a": 10, "train/b": 5, "seal": 1}, "model_miou": {"psl": 0.5}},
        "there": {"seconds": {"train/a": 20, "train/b": 10}, "model_miou": {"psl": 0.4, "no": 0.1}},
    }
    for name, summary in trees.items():
        (tmp_path / name / "aepsl_tf").mkdir(parents=True)
        (tmp_path / name / "aepsl_tf/pipeline.py").write_text(f"SUMMARY = {summary}\n{_PIPELINE}")
    monkeypatch.setattr(whole, "ROOT", tmp_path / "here")
    flags = ["--theirs=--psl_start_epoch=4", "--ours=--precision=auto", "--seed=3"]
    runs = tmp_path / "runs"
    monkeypatch.setattr(sys, "argv", ["whole", str(tmp_path / "there"), str(runs), *flags])
    whole.main()
    out = capsys.readouterr().out
    assert all(flag in out for flag in flags)  # the line above the tables is the command
    assert {"| train | 15 | 30 | 0.50 |", "| seal | 1 | 0 |  |"} <= set(out.splitlines())
    assert "| psl | 0.500 | 0.400 | +0.100 |" in out and "| no |" not in out
    given = {name: json.loads((runs / name / "summary.json").read_text())["flags"]
             for name in ("ours", "older")}  # fmt: skip
    assert given["ours"].pop("precision") == "auto"
    assert given["older"].pop("psl_start_epoch") == "4"
    assert given["ours"].pop("run_dir") != given["older"].pop("run_dir")
    assert given["ours"] == given["older"] == {"seed": "3"}


def test_the_page_is_whole():
    """No word stands for a paragraph that was to be written."""
    assert " WORDS" not in run.PAGE.read_text()
