"""The benchmarks run, on next to nothing, and what they compute of what they measure is right."""

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
from conftest import jpeg

import benchmarks
from aepsl_tf import __main__ as console
from aepsl_tf.training import precision
from benchmarks import (
    cost,
    front_door,
    layers,
    memory,
    processes,
    reader,
    run,
    saliency_speed,
    shards,
    training,
    whole,
)
from benchmarks import input as input_


@pytest.fixture
def printed(monkeypatch, capsys):
    """`printed(benchmark, *arguments)`: the table that it prints, {row: its other cells}."""

    def call(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        module.main()
        lines = [one for one in capsys.readouterr().out.splitlines() if one.startswith("|")]
        rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:])
        return {name: cells for name, *cells in rows}

    return call


@pytest.fixture
def cv2_threads():
    """For what sets them."""
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


MEDIAN = r"\d+\.\d+ \(\d+\.\d+ to \d+\.\d+\)"


def test_the_heading_names_the_processor_and_what_did_the_work():
    found = benchmarks.heading("--much=1")
    cpus = pathlib.Path("/proc/cpuinfo").read_text()
    model, *_ = re.findall("^model name\t: (.+)$", cpus, re.M) or [benchmarks.platform.machine()]
    assert re.match(re.escape(model) + r"( \((amx|avx)\w+\))?, \d+ cores, load ", found)
    assert found.endswith(": --much=1\n")
    if (run.ROOT / ".git").exists():
        assert re.search(r", commit [0-9a-f]{7,}", found)
    assert f"ONNX Runtime {importlib.metadata.version('onnxruntime')}, " in found


def test_a_cell_is_the_median_and_what_was_least_and_most():
    assert benchmarks.median([0.98, 0.5, 1.0]) == "0.98 (0.50 to 1.00)"


def test_processes(devkit, printed, cv2_threads):
    rows = printed(processes, devkit, "--images=2", "--write_images=3", "--rounds=1", "--workers=1")
    assert rows.keys() == {"CRF", "DRFI", "write_voc, 3 images"}
    assert cv2.getNumThreads() == 1  # as a worker has


def test_input(devkit, printed):
    rows = printed(
        input_, f"--devkit={devkit}", "--backbone=vgg16_small", "--input_size=33", "--images=4",
        "--batch=2", "--steps=1", "--rounds=1", "--rows=crop,head",
    )  # fmt: skip
    assert rows.keys() == {"records, crop", "cache, a head of 256 channels"}
    assert all(re.fullmatch(MEDIAN, cells[-1]) for cells in rows.values())


def test_saliency_speed(tmp_path, monkeypatch, capsys, cv2_threads):
    rng = np.random.default_rng(0)
    for name in "ab":
        pixels = rng.integers(0, 256, [60, 80, 3], np.uint8)
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(pixels))
    options = [str(tmp_path), "--images=2", "--height=60", "--width=80"]
    monkeypatch.setattr(sys, "argv", ["saliency_speed", *options])
    saliency_speed.main()
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for _, name in saliency_speed.PARTS)
    assert re.search(r"two processes are \d+\.\d+ times as fast as one", out)


def test_shards(printed, monkeypatch, cv2_threads):
    monkeypatch.setattr(shards, "HEIGHT", 30)
    monkeypatch.setattr(shards, "WIDTH", 40)
    rows = printed(shards, "--images=3", "--shards=2", "--workers=2")
    assert rows["one process"][-1] == rows["pool"][-1]  # digests


def test_the_front_door_is_timed(devkit):
    assert 0 < front_door.seconds(front_door.ROOT, str(devkit), "val", "") < 60


def test_the_twin_steps():
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    twin = training.Twin(sys.executable, "segmenter", 1, 33, "float32")
    assert twin.seconds(1) > 0
    twin.close()
    assert twin.process.returncode == 0


def test_the_reader_s_shares_are_of_the_same_run(capsys):
    seconds = {task: [10.0, 20.0] for task in reader.ALONE}
    for phase in reader.PHASES:
        seconds |= {f"{phase} of few": [1.0, 2.0], f"{phase} of many": [9.0, 34.0]}
    reader.show(10, {(task, "here"): values for task, values in seconds.items()})
    row = capsys.readouterr().out.splitlines()[-1]
    # 1 s and 2 s a picture alone; (9 - 1) / 8 and (34 - 2) / 8 of the eight beside the first two.
    assert row == "| predict | 1.5 | 2.500 |  |  | 0.750 | 0.750 (0.500 to 1.000) |"


@pytest.mark.long
def test_the_reader(devkit, printed):
    rows = printed(
        reader, devkit, "--images=4", "--runs=1", "--uncounted=0", "--backbone=vgg16_small",
        "--input=warp", "--input_size=33", f"--against={reader.ROOT}",
    )  # fmt: skip
    assert rows.keys() == {*reader.ALONE, *reader.PHASES}


# ------------------------------------------------------------------------------------- memory

NOT_OF_A_SPLIT = {
    "make_demo", "download_voc", "train_saliency",  # make a set or a model of no run
    "pipeline", "experiments",  # run the others
    "status", "inspect",  # read what is there
    "export",  # reads a model
}  # fmt: skip


def test_memory_is_measured_of_every_command_that_goes_over_a_split():
    modules = {f"{console.COMMANDS[name]}.{name}" for name in console.COMMANDS.keys()
               - NOT_OF_A_SPLIT}  # fmt: skip
    assert {module for module, *_ in memory.PHASES.values()} == modules


WITHOUT_A_NETWORK = [
    "write_voc", "write_folder", "write_saliency", "supervised_masks", "evaluate saliency"
]  # fmt: skip


@pytest.mark.parametrize(
    "names", [WITHOUT_A_NETWORK, pytest.param([*memory.PHASES], marks=pytest.mark.long)]
)
def test_memory_of_the_phases(devkit, tmp_path, names):
    memory.shrink_devkit(devkit, tmp_path / "small", 2, 40)
    memory.repeat_devkit(tmp_path / "small", tmp_path / "devkit", 3, 2)
    for name in names:
        peak, seconds = memory.run_alone(name, tmp_path)
        assert peak > 10 and seconds > 0


def test_memory(devkit, printed):
    rows = printed(memory, f"--devkit={devkit}", "--images=2", "--times=2", "--only=write_voc")
    few, many, _, ratio = map(float, rows["write_voc"])
    assert 0.9 < ratio < 1.1 and abs(many / few - ratio) < 0.02


# ------------------------------------------------------------------------------ the whole page


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
    page = {"segmenter, B = 4": bound}  # of whatever batch and way, here and there, the best counts
    page["segmenter, B = 4, float32"] = bound * (2 if name == "training" else 0.5)
    assert run.check(name, ["segmenter"], run.ratios(TABLE), page) == ["segmenter"] * fails


def test_a_row_that_is_missing_fails():
    one = {"another": 1.0}
    assert run.check("reader", ["another"], {}, one) == ["another"]
    assert run.check("training", ["another"], one, {}) == ["another"]
    assert run.check("training", ["another"], one, one) == []


def test_the_check_without_pytorch_says_so_before_it_measures(monkeypatch):
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run, "run", lambda *_: pytest.fail("measures"))
    with pytest.raises(SystemExit, match=r"pip install torch.*--only=input,reader,processes"):
        run.checked([], {"onnx": ""})


def test_the_check_asks_the_page(monkeypatch, capsys):
    page = run.ratios(run.between_marks(run.PAGE.read_text(), "processes")[1])
    worse = {name: ratio / 1.2 if name == "DRFI" else ratio for name, ratio in page.items()}
    table = "".join(f"| {name} | {ratio} |\n" for name, ratio in worse.items())
    monkeypatch.setattr(run, "run", lambda *_: table)
    monkeypatch.setattr(run, "machine", lambda: "AMD EPYC (avx512_bf16), 2 cores")
    values = {"devkit": "", "onnx": "--onnx_model=u2netp.onnx"}
    assert run.checked(["processes"], values) == ["DRFI"]
    assert "is not the page's machine" not in capsys.readouterr().out
    monkeypatch.setattr(run, "machine", lambda: "Another, 2 cores")
    run.checked(["processes"], values)
    assert "processes: Another, 2 cores is not the page's machine" in capsys.readouterr().out


def test_paths_may_have_spaces_and_lie_in_one_another(monkeypatch, tmp_path):
    devkit = tmp_path / "my devkit"
    devkit.mkdir()
    (devkit / "u2 netp.onnx").touch()
    page, ran = tmp_path / "page.md", []
    page.write_text("<!-- processes -->\n<!-- end of processes -->\n")
    monkeypatch.setattr(run, "PAGE", page)
    process = types.SimpleNamespace(stdout=["| a | 1.0 |\n"], wait=lambda: 0)
    monkeypatch.setattr(
        run.subprocess, "Popen", lambda command, **_: ran.append(command) or process
    )
    given = [f"--devkit={devkit}", f"--onnx_model={devkit / 'u2 netp.onnx'}", "--only=processes"]
    monkeypatch.setattr(sys, "argv", ["run", *given])
    run.main()
    assert {str(devkit), f"--onnx_model={devkit / 'u2 netp.onnx'}"} <= set(ran[0])
    shown = "VOC2012 --images=400 --rounds=3 --onnx_model=u2netp.onnx\n"
    assert f"python -m benchmarks.processes {shown}" in page.read_text()


def test_every_row_of_the_check_is_on_the_page():
    for name, (_, rows) in run.CHECKS.items():
        there = run.ratios(run.between_marks(run.PAGE.read_text(), name)[1])
        assert all(any(one.startswith(row) for one in there) for row in rows), name


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


def test_auto_is_asked_as_a_run_asks(monkeypatch):
    seen = []

    def choice(value):
        def choose(config):
            seen.append((config.backbone, config.precision))
            return value, {value: 0.1}

        return choose

    monkeypatch.setattr(precision, "choose", choice("mixed_bfloat16"))
    monkeypatch.setattr(precision, "choose_gradients", choice("taps"))
    assert training.auto() == (("mixed_bfloat16", "taps"), {"mixed_bfloat16": 0.1, "taps": 0.1})
    assert seen == [("vgg16", "auto"), ("vgg16", "mixed_bfloat16")]


def test_training_and_its_limit(printed, monkeypatch):
    options = ["--kinds=classifier", "--batches=1", "--size=33", "--steps=1", "--rounds=1"]
    monkeypatch.setattr(training, "auto", lambda _: (("float32", "taps"), {}))
    rows = printed(training, *options, "--torch=", "--auto")
    (cells,) = rows.values()
    assert [*rows] == ["classifier, B = 1, float32, taps, auto"]
    assert 0 < float(cells[1]) < 2  # of the best convolution's rate


@pytest.mark.parametrize(
    ("by", "twins"),
    [({"float32": 1.0, "mixed_bfloat16": 3.1}, ["float32"]),
     ({"float32": 1.0, "mixed_bfloat16": 2.0}, ["float32", "bfloat16"]),
     ({"compute_capability": "9.0"}, ["float32", "bfloat16"])],
)  # fmt: skip
def test_a_twin_is_asked_in_no_precision_that_is_imitated(by, twins, printed, monkeypatch):
    asked = []

    class Timed:
        def __init__(self, *given):
            asked.append(given[-1])

        def seconds(self, steps):
            return 1.0

        def close(self):
            pass

    monkeypatch.setattr(training, "auto", lambda _: (("float32", "taps"), by))
    monkeypatch.setattr(training, "_limits", lambda ways, *_: {way[0]: 1.0 for way in ways})
    monkeypatch.setattr(training, "Twin", Timed)
    monkeypatch.setattr(training, "Ours", lambda *given: Timed("ours"))
    found = printed(training, "--kinds=segmenter", "--batches=2,4", "--size=33", "--auto")
    assert asked == ["ours", *twins] * 2
    assert all(cells[-1] == "1.00 (1.00 to 1.00)" for cells in found.values()) and len(found) == 2


def test_gflop_are_those_of_the_taps_that_see_something():
    found = layers.convolutions(321, precision="float32", kernel_gradients="library")
    by_name = {one[0].name: layers.gflop(*one) for one in found}
    assert [one[1] for one in found][::2] == [321, 161, 81, 81, 41, 41, 41, 41]  # cells
    seen = (41 + 2 * 29) ** 2  # of 3 × 41 a side, where fc6 looks 12 cells away
    np.testing.assert_allclose(by_name["fc6"], 2e-9 * seen * 512 * 1024)
    np.testing.assert_allclose(by_name["fc7"], 2e-9 * 41**2 * 1024 * 1024)
    both = 3 * sum(by_name.values()) - by_name["block1_conv1"]
    np.testing.assert_allclose(layers.step_gflop(321), both)


def test_the_costs_add_up(devkit, printed, monkeypatch):
    each = dict.fromkeys((one[-1] for one in cost.COSTS.values() if one[-1]), 0.01)
    each |= {"CRF": 0.3, "train step": 0.8, "forward": 0.2}
    monkeypatch.setattr(cost, "measured", lambda *_: (each, ("float32", "taps")))
    monkeypatch.setattr(cost.os, "sched_getaffinity", lambda _: {0, 1})
    rows = printed(cost, devkit, "--train_images=3600", "--val_images=720")
    assert rows["train_classifier"][:2] == ["3", "36.00"]  # 3600 images, 15 epochs of .8 s
    assert rows["train_segmenter"][:2] == ["3", "36.00"]  # no PSL, PSL, PSL++
    assert rows["relabel"][:2] == ["1", "0.35"]  # .2 s, and .3 s of one of two cores
    assert rows["evaluate"][:2] == ["3", "0.21"]
    assert rows["write_voc/val"][0] == rows["write_voc"][0] == "1"
    *others, last = rows.values()
    for column in (1, 2, 3):
        values = [float(cells[column]) for cells in others]
        np.testing.assert_allclose(sum(values), float(last[column]), atol=0.006 * len(rows))


@pytest.mark.long
def test_what_a_picture_costs_is_measured(devkit, monkeypatch):
    monkeypatch.setattr(cost, "SIZE", 33)
    monkeypatch.setattr(training, "auto", lambda size: (("float32", "library"), {}))
    found, way = cost.measured(devkit, 1)
    needed = {one[-1] for one in cost.COSTS.values() if one[-1]} | {"train step", "forward"}
    assert found.keys() == needed and min(found.values()) > 0
    assert found["forward"] < found["train step"] and way == ("float32", "library")


def test_every_phase_of_the_paper_s_run_has_its_cost(devkit):
    command = ["-m", "aepsl_tf.pipeline", f"--flagfile={cost.FLAGS}", "--dry_run", "--run_dir=none"]
    done = subprocess.run([sys.executable, *command, f"--voc_root={devkit}"], cwd=cost.ROOT,
                          capture_output=True, text=True, check=True)  # fmt: skip
    kinds = {line.split()[-1].partition("/")[0] for line in done.stdout.splitlines()}
    assert kinds == {name.partition("/")[0] for name in cost.COSTS} | {"export", "report"}


_PIPELINE = """
import json, pathlib, sys
flags = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:])
pathlib.Path(flags["run_dir"]).mkdir(exist_ok=True)
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
    assert {"| train | 15 | 30 | 0.50 |", "| seal | 1 | 0 |  |",
            "| all phases | 16 | 30 | 0.53 |"} <= set(out.splitlines())  # fmt: skip
    assert "| psl | 0.500 | 0.400 | +0.100 |" in out and "| no |" not in out
    given = {name: json.loads((runs / name / "summary.json").read_text())["flags"]
             for name in ("ours", "older")}  # fmt: skip
    assert given["ours"].pop("precision") == "auto"
    assert given["older"].pop("psl_start_epoch") == "4"
    assert given["ours"].pop("run_dir") != given["older"].pop("run_dir")
    assert given["ours"] == given["older"] == {"seed": "3"}
    assert "| the whole command | 0 | 0 | " in out
    (runs / "ours" / "summary.json").unlink()  # killed: given again, the time is not the whole's
    whole.main()
    assert "| the whole command | resumed | resumed |  |" in capsys.readouterr().out


def test_the_page_is_whole():
    """No word stands for a paragraph that was to be written."""
    assert " WORDS" not in run.PAGE.read_text()
