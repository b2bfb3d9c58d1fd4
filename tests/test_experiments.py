"""Experiments: their flagfiles, what they share, and the page that is made of their numbers."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver
from conftest import TINY

from aepsl_tf import config, config_flags, experiments, files
from aepsl_tf.classes import VOC
from aepsl_tf.errors import InputError
from aepsl_tf.pipeline import Pipeline
from aepsl_tf.run_dir import RunDir

ROOT = pathlib.Path(__file__).parents[1]
ALL = experiments.experiments("")


@pytest.mark.parametrize("name", ALL)
def test_each_flagfile_is_a_run_that_can_be_planned(name, common, tmp_path):
    config_flags.define()
    given = [f"--{k}={v}" for k, v in common.items()]
    with flagsaver.flagsaver():
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        flags.FLAGS(["program", *given, f"--flagfile={ALL[name]}"])
        settings = config_flags.read(config.Pipeline)
        plan = Pipeline(settings, config_flags.read, RunDir(tmp_path / "none")).plan()
    assert "write_voc/train" in plan
    title, paper = experiments.described(ALL[name])
    assert title.endswith(".") and "#" not in title
    for row in paper.values():
        assert experiments._paper(row, VOC.all_names()).keys() == set(VOC.all_names())


def test_the_paper_s_rows_have_the_paper_s_means():
    """Tables 3 and 4, their last columns."""
    printed = {"steps_1": 44.9, "steps_1_to_2": 49.5, "steps_1_to_3": 50.9, "steps_1_to_4": 48.8,
               "psl": 54.1, "psl_plus_plus": 55.0, "psl_gt": 56.1}  # fmt: skip
    for row, miou in printed.items():
        classes = experiments._paper(row, VOC.all_names())
        assert 100 * sum(classes.values()) / 21 == pytest.approx(miou, abs=0.06)


def test_the_readme_s_command_names_what_there_is():
    text = (ROOT / "README.md").read_text().replace("\\\n", "")
    command = re.search(r"-m aepsl_tf\.experiments (.+)", text)[1].split()
    given = dict(argument.lstrip("-").split("=") for argument in command)
    assert (ROOT / given["flagfile"]).exists() and len(experiments.experiments(given["only"])) == 2
    assert given.keys() - {"flagfile"} <= {"runs", "voc_root", "weights", "only", "seeds"}


def test_one_runner_at_a_time(tmp_path):
    settings = config.Experiments(runs=str(tmp_path))
    with (
        files.alone(tmp_path / ".lock", ""),
        pytest.raises(InputError, match="other experiments are running"),
    ):
        experiments.run_all(settings, {})


def test_an_unknown_experiment_is_refused():
    with pytest.raises(InputError, match="--only=table9: no experiment begins so"):
        experiments.experiments("table3,table9")


def test_spread():
    assert experiments.spread([]) == experiments.spread([None]) == "–"
    assert experiments.spread([0.5]) == "50.0"
    assert experiments.spread([0.4, 0.6, None]) == "50.0 ± 14.1"


def fabricated(runs, name, seed, classes, steps=1, iou=0.5):
    """A finished run's numbers, in which every class has the same IoU."""
    folder = runs / f"{name}.seed_{seed}"
    (folder / "eval").mkdir(parents=True)
    each = dict.fromkeys(classes, iou)
    result = {"images": 1, "miou": iou, "pixel_accuracy": iou, "labelled_share": 1.0,
              "miou_void_wrong": iou, "iou": each, "confusion": [[1]]}  # fmt: skip
    numbers = {f"step_{step}": iou for step in range(1, steps + 1)}
    found = {"no_psl": result} | {
        f"masks_steps_1_to_{step}": result for step in range(1, steps + 1)
    }
    summary = {"mask_miou": numbers, "model_miou": {"no_psl": iou}, "agreement": {},
               "classifier_loss": numbers, "object_share": {}, "psl_start": {},
               "seconds": {}}  # fmt: skip
    for of, measured in found.items():
        (folder / f"eval/{of}.json").write_text(json.dumps({of: measured}))
    (folder / "eval/saliency_train.json").write_text('{"saliency_train": {"mae": 0.1}}')
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "manifest.json").write_text("{}")
    return result, folder


def test_pictures_that_are_not_voc_s_have_no_paper_beside_them(tmp_path):
    fabricated(tmp_path, "table3_steps_1_to_1", 0, ["background", "cat", "snail"])
    page = experiments.page(["table3_steps_1_to_1.seed_0"], tmp_path, "COMMAND")
    assert "| table3_steps_1_to_1 | no_psl | 1 | 50.0 | – | – | – | – |" in page
    assert "|  | background | cat | snail |" in page and "the paper:" not in page


def test_the_seeds_of_a_table_may_differ_in_steps_and_classes(tmp_path):
    """--merge_steps=auto may take more with one seed; one model may call something what is not."""
    for seed, steps in enumerate((1, 2, 1)):
        fabricated(tmp_path, "grid_auto", seed, ["background", "cat"], steps, 0.4 + 0.1 * seed)
    result, folder = fabricated(tmp_path, "grid_0.2", 0, ["background", "cat", "dog"])
    result["iou"]["dog"] = None
    for name in ("no_psl", "masks_steps_1_to_1"):
        (folder / f"eval/{name}.json").write_text(json.dumps({name: result}))
    lines = experiments.page([], tmp_path, "COMMAND").splitlines()
    of = {row: [line for line in lines if line.startswith(f"| grid_auto | {row} |")]
          for row in ("1 to 1", "1 to 2", "no_psl")}  # fmt: skip
    assert [len(found) for found in of.values()] == [1, 1, 1]
    assert "50.0 ± 10.0" in of["1 to 1"][0] and of["1 to 2"][0].endswith("| 50.0 | 50.0 |")
    assert of["no_psl"][0].startswith("| grid_auto | no_psl | 3 | 50.0 ± 10.0 |")
    table = lines[lines.index("IoU by class:") + 2 :]
    assert len({line.count("|") for line in table if line}) == 1


def test_when_online_masks_joined():
    assert [experiments._joined({"psl": 3, "b": None}, m) for m in ("psl", "b", "no_psl")] == [
        "4", "never", "–"]  # fmt: skip


def test_the_paper_beside_a_row_is_of_its_own_classes(tmp_path):
    """Whatever other rows there are."""
    name, row = "table3_steps_1_to_1", r"\| table3_steps_1_to_1 \| no_psl \| 1 \| 50.0 \| .*"
    _, folder = fabricated(tmp_path, name, 0, ["background", "cat"])
    path = folder / "eval/no_psl.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"no_psl_crf": found["no_psl"]}))
    summary = json.loads((folder / "summary.json").read_text())
    summary["model_miou"]["no_psl_crf"] = 0.5
    (folder / "summary.json").write_text(json.dumps(summary))
    alone = re.search(row, experiments.page([], tmp_path, "COMMAND"))[0]
    assert f"| {(82.6 + 60.0) / 2:.1f} |" in alone  # Table 3, step 1
    fabricated(tmp_path, "grid_0.2", 0, ["background", "cat", "dog", "snail"])
    beside = experiments.page([], tmp_path, "COMMAND")
    assert re.search(row, beside)[0] == alone
    assert "| the paper: steps_1 | 82.6 | 60.0 | – | – |" in beside


def test_the_page_keeps_what_earlier_commands_measured(tmp_path):
    """And takes no copy of a run for one more seed."""
    for seed in (0, 1, 10):
        fabricated(tmp_path, "table3_steps_1_to_1", seed, ["background", "cat"])
    first = tmp_path / "table3_steps_1_to_1.seed_0"
    shutil.copytree(first, tmp_path / "table3_steps_1_to_1.seed_0_SEC")
    asked = ["table4.seed_0", "table3_steps_1_to_1.seed_0", "table3_steps_1_to_1.seed_1"]
    page = experiments.page(asked, tmp_path, "COMMAND", failed=[asked[2]])
    assert "| table3_steps_1_to_1 | no_psl | 3 |" in page
    told = " By an earlier command: table3_steps_1_to_1.seed_1, table3_steps_1_to_1.seed_10.\n"
    assert page.count("earlier command") == page.count(told) == 1
    assert re.search(r"\*\*table4\*\*: .* Not measured yet\.\n", page)


@pytest.mark.parametrize("flag", ["--seed=7", "--run_dir=RUN", "--share=RUNS"])
def test_what_the_runner_names_itself_is_refused(flag, tmp_path):
    command = [sys.executable, "-m", "aepsl_tf.experiments", f"--runs={tmp_path}", flag]
    done = subprocess.run(command, capture_output=True, text=True)
    name = flag.partition("=")[0]
    assert done.returncode == 1 and done.stderr.startswith(f"error: {name}: each run gets its own")


def test_two_experiments_share_a_run_and_make_a_page(devkit, tmp_path):
    """As one would call it; the second seed is not asked for, then shown as it is missing."""
    given = [f"--{k}={v}" for k, v in TINY.items() if k not in ("max_steps", "merge_steps")]
    command = [sys.executable, "-m", "aepsl_tf.experiments", *given, f"--voc_root={devkit}",
               f"--runs={tmp_path}", "--only=table3_steps_1_to_1,table4_branch", "--nocrf",
               "--max_steps=1", "--merge_steps=1", "--workers=1"]  # fmt: skip
    planned = subprocess.run([*command, "--dry_run"], capture_output=True, text=True)
    assert planned.returncode == 0, planned.stderr[-3000:]
    assert planned.stdout.count("to do     write_voc/train\n") == 2 and not any(tmp_path.iterdir())
    looked = subprocess.run([*command, "--dry_run", "--show"], capture_output=True, text=True)
    assert looked.returncode == 0 and looked.stdout.count("Not measured yet") == 2
    assert not any(tmp_path.iterdir())
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "taken from" in done.stderr
    page = (tmp_path / "results.md").read_text()
    assert page in done.stdout
    summary = json.loads((tmp_path / "table3_steps_1_to_1.seed_0/summary.json").read_text())
    shown = f"{100 * summary['model_miou']['no_psl']:.1f}"
    assert re.search(rf"\| table3_steps_1_to_1 \| no_psl \| 1 \| {shown} \| – \|", page)
    assert "| table4_branch_only | psl | 1 |" in page
    assert "**table4_branch_only**: The classification branch" in page
    masks = [line for line in page.splitlines() if re.match(r"\| table\w+ \| 1 to", line)]
    assert len(masks) == 4 and all(line.startswith("| table3_steps_1_to_1 ") for line in masks)
    for name, own in (("table3_steps_1_to_1", True), ("table4_branch_only", False)):
        told = re.search(rf"\*\*{name}\*\*.* ([\d.]+) minutes .* of them ([\d.]+) beside", page)
        assert told and (told[1] == told[2]) is own, page
    command = [*command, "--only=table3_steps_1_to_1", "--seeds=2"]
    shown = subprocess.run([*command, "--show"], capture_output=True, text=True)
    assert shown.returncode == 0 and "| no_psl | 1 |" in shown.stdout
    both = subprocess.run([*command, "--restart"], capture_output=True, text=True)
    assert both.returncode == 0 and "experiment 2 of 2" in both.stderr
    assert "restart" not in (tmp_path / "base.flags").read_text()
    assert re.search(r"\| no_psl \| 2 \| [\d.]+ ± [\d.]+ \|", both.stdout)
