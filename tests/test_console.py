"""`aepsl`: the commands by their names, their help, a run's state, and all of it from a wheel."""

import pathlib
import re
import subprocess
import sys
import sysconfig

import pytest

from aepsl_tf import __main__ as console
from aepsl_tf import config, config_flags, status
from aepsl_tf.errors import InputError
from aepsl_tf.phases import make_masks

ROOT = pathlib.Path(__file__).parents[1]


def aepsl(*arguments, program=(sys.executable, "-m", "aepsl_tf"), cwd=ROOT):
    return subprocess.run(
        [*map(str, program), *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )


def test_the_commands_are_all_there_are():
    """What has a command line of its own."""
    found = set()
    for package in ("aepsl_tf", "aepsl_tf/phases", "data_prep"):
        for path in (ROOT / package).glob("*.py"):
            if 'if __name__ == "__main__":' in path.read_text() and path.stem != "__main__":
                found.add((path.stem, package.replace("/", ".")))
    assert found == set(console.COMMANDS.items())


def test_alone_it_lists_them():
    done = aepsl()
    assert done.returncode == 0 and done.stderr == ""
    lines = dict(line.split(None, 1) for line in done.stdout.split("\n\n")[1].strip().split("\n"))
    assert list(lines) == list(console.COMMANDS)
    assert lines["train_classifier"] == "Trains M_t (Algorithm 1, line 2)."
    assert "flags/own_pictures.flags" in done.stdout.split("\n\n")[2]


def test_a_name_that_is_nearly_right():
    done = aepsl("relable")
    assert done.returncode == 1
    assert done.stderr == "error: 'relable' is no command: did you mean relabel?\n"


def test_help_shows_a_phase_s_own_flags_and_its_own_defaults():
    shown = aepsl("write_voc", "--help").stdout
    own = {field for field in config.WriteVoc.__dataclass_fields__}
    found = set(re.findall(r"^  --(?:\[no\])?(\w+)", shown, re.M))
    assert found == own | set(config_flags._COMMON)
    assert re.search(r"--split: split: .*default\s+'train'", shown, re.S)
    assert "learning_rate" not in shown


def test_a_flagfile_that_is_not_there_is_one_line():
    done = aepsl("status", "--flagfile=none.flags")
    assert done.returncode == 1 and done.stderr.startswith("error: --flagfile=none.flags: no such")
    assert done.stderr.count("\n") == 1


def test_a_misspelt_flag_gets_the_nearest_name():
    done = aepsl("make_masks", "--merge_stepz=1")
    assert done.returncode == 1 and "Did you mean: merge_steps ?" in done.stderr


def test_flagfiles_are_read_from_anywhere(tmp_path, monkeypatch):
    """`flags/NAME` is the project's own where there is no such folder; in a flagfile too."""
    monkeypatch.chdir(tmp_path)
    found = list(config_flags.expanded(["x", "--flagfile=flags/voc2012_animals.flags", "--p=0"]))
    assert found[0] == "x" and found[-1] == "--p=0" and "--freeze_through=pool5a" in found
    (lists,) = (argument for argument in found if argument.startswith("--lists_dir="))
    assert pathlib.Path(lists.partition("=")[2], "animals_val.txt").exists()
    assert list(config_flags.expanded(["--flagfile", "flags/demo.flags", "--p=0"]))[-1] == "--p=0"
    with pytest.raises(InputError, match=r"=.*/demo.flag: no such file; .* flags/demo.flags "):
        list(config_flags.expanded(["x", "--flagfile=flags/demo.flag"]))
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags/demo.flags").write_text("# mine\n\n--p=0.5\n")
    assert list(config_flags.expanded(["--flagfile=flags/demo.flags"])) == ["--p=0.5"]


def test_what_is_finished_stale_or_half_done(run_copy, read):
    assert {state for _, state, _, _ in status.states(run_copy)} == {"finished"}
    run_copy.restart = True
    make_masks.run(read(config.MakeMasks, merge_steps=2, background_threshold=0.3), run_copy, 1)
    (run_copy.root / "export/psl_plus_plus").rename(run_copy.root / "export/psl_plus_plus.partial")
    found = {key: (state, why) for key, state, why, _ in status.states(run_copy)}
    assert found["train_segmenter/psl"] == ("stale", "make_masks/steps_1_to_2 was made again since")
    assert found["evaluate/psl"] == ("stale", "train_segmenter/psl is stale")
    assert found["train_classifier/step_1"] == ("finished", "")
    assert found["export/psl_plus_plus"][0] == "half done"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """`aepsl` of a wheel, in a new environment that finds only libraries in this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    sources = folder / "sources"  # building leaves things behind
    subprocess.run(["git", "clone", "-q", str(ROOT), str(sources)], check=True)
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(sources)],
        check=True, timeout=300,
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "under.pth").write_text(sysconfig.get_paths()["purelib"])
    (wheel,) = folder.glob("*.whl")
    program = folder / "venv/bin/python"
    subprocess.run([program, "-m", "pip", "install", "-q", "--no-deps", str(wheel)], check=True)
    return folder / "venv/bin/aepsl"


def test_a_wheel_is_all_that_is_needed(installed, tmp_path):
    """Drawn set, flagfile, DRFI's model, the report's page and the plan, outside the checkout."""
    for arguments in (
        ["make_demo", "--demo_root=d", "--demo_train=3", "--demo_val=2"],
        ["write_voc", "--run_dir=r", "--voc_root=d"],
        ["write_saliency", "--run_dir=r", "--workers=1"],
        ["report", "--run_dir=r"],
        ["status", "--run_dir=r"],
        ["pipeline", "--flagfile=flags/demo.flags", "--run_dir=p", "--voc_root=d", "--dry_run"],
    ):
        done = aepsl(*arguments, program=[installed], cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    assert "to do     train_segmenter/psl_plus_plus" in done.stdout
    done = aepsl("experiments", "--only=none", "--runs=x", program=[installed], cwd=tmp_path)
    assert "there are ceiling, " in done.stderr
