"""Experiments: their flagfiles, what they share, and the page that is made of their numbers."""

import json
import pathlib
import re
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
    assert given.keys() - {"flagfile"} <= {"runs", "voc_root", "only", "seeds"}


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


def test_two_experiments_share_a_run_and_make_a_page(devkit, tmp_path):
    """As one would call it; the second seed is not asked for, then shown as it is missing."""
    given = [f"--{k}={v}" for k, v in TINY.items() if k not in ("max_steps", "merge_steps")]
    command = [sys.executable, "-m", "aepsl_tf.experiments", *given, f"--voc_root={devkit}",
               f"--runs={tmp_path}", "--only=table3_steps_1_to_1,table4_branch", "--nocrf",
               "--max_steps=1", "--merge_steps=1", "--workers=1"]  # fmt: skip
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
    masks = [line for line in page.splitlines() if line.startswith("| table3_steps_1_to_1 | 1 to")]
    assert len(masks) == 4
    for name, own in (("table3_steps_1_to_1", True), ("table4_branch_only", False)):
        told = re.search(rf"\*\*{name}\*\*.* ([\d.]+) minutes .* of them ([\d.]+) beside", page)
        assert told and (told[1] == told[2]) is own, page
    command = [*command, "--only=table3_steps_1_to_1", "--seeds=2"]
    shown = subprocess.run([*command, "--show"], capture_output=True, text=True)
    assert shown.returncode == 0 and "| no_psl | 1 |" in shown.stdout
    both = subprocess.run(command, capture_output=True, text=True)
    assert both.returncode == 0 and "experiment 2 of 2" in both.stderr
    assert re.search(r"\| no_psl \| 2 \| [\d.]+ ± [\d.]+ \|", both.stdout)
