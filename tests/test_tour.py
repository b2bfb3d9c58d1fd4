"""docs/tour.md: its commands parse and, up to the plan, run as printed; its pictures are there."""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from aepsl_tf import __main__ as console
from aepsl_tf import config, config_flags

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs/tour.md").read_text()
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.M | re.S)
BLOCKS = [block for kind, block in FENCES if not kind]
"""What one types; what is printed stands in blocks of `text`."""
LINES = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
COMMANDS = [shlex.split(line)[1:] for line in LINES if line.startswith("aepsl ")]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with the flagfile that the tour writes, which is the current one; absl's flags are
    after the test what they were.
    """
    monkeypatch.chdir(tmp_path)
    (heredoc,) = re.findall(r"^cat > own.flags <<END\n(.*?)^END$", TEXT, re.M | re.S)
    pathlib.Path("own.flags").write_text(heredoc)
    config_flags.define()
    saved = flagsaver.save_flag_values()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    yield
    flagsaver.restore_flag_values(saved)


def settings_of(command):
    """The dataclass whose flags a command reads, by its last lines; None of a plain program."""
    path = ROOT / console.COMMANDS[command].replace(".", "/") / f"{command}.py"
    found = re.findall(r"run_(?:phase|app)\((?:main, )?config\.(\w+)", path.read_text())
    return getattr(config, found[-1]) if found else None


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_parses(command, own):
    name, *given = command
    settings = settings_of(name)
    fields = settings.__dataclass_fields__ if settings else {}
    for flag in re.findall(r"--(\w+)", " ".join(given)):
        assert flag in {"flagfile", *config_flags._COMMON, *fields}, f"--{flag} is none of {name}"
    assert flags.FLAGS(["program", *config_flags.expanded(given)]) == ["program"]
    if settings:
        config_flags.read(settings)


def test_there_is_every_kind_of_command():
    shown = {command for command, *_ in COMMANDS}
    assert shown >= {"write_folder", "inspect", "pipeline", "predict", "export", "report"}


def test_flags_in_its_words_exist():
    words = re.sub(r"^```.*?^```$|`(pip|aepsl) .*?`", "", TEXT, flags=re.M | re.S)
    config_flags.define()
    for flag in set(re.findall(r"--(\w+)", words)) - {"flagfile"}:
        assert flag in flags.FLAGS or flag.removeprefix("no") in flags.FLAGS, flag


def test_what_it_shows_and_links_is_there():
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    assert len(shown) == 4
    for name in shown:
        assert (ROOT / "docs" / name).stat().st_size < 150_000
    for name in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / name).exists(), name
    here = {f"tour/{path.name}" for path in (ROOT / "docs/tour").iterdir()}
    assert here == set(shown)


def test_up_to_the_plan_it_runs_as_printed(tmp_path):
    """In bash, from the first pictures to the plan, where `aepsl` is this checkout's."""
    start, end = (next(i for i, block in enumerate(BLOCKS) if word in block)
                  for word in ("make_demo", "--dry_run"))  # fmt: skip
    *before, planning = BLOCKS[start : end + 1]
    typed = "".join([*before, planning.splitlines(keepends=True)[0]])
    shim = tmp_path / "bin/aepsl"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m aepsl_tf "$@"\n')
    shim.chmod(0o755)
    env = dict(os.environ, PATH=f"{shim.parent}:{os.environ['PATH']}", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        ["bash", "-euc", typed], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    printed = re.search(r"^```text\n(\| tag .*?)^…\n(.*?)^```$", TEXT, re.M | re.S)
    assert printed[1] in done.stdout and printed[2] in done.stdout
    assert "to do     train_segmenter/psl_plus_plus" in done.stdout
    assert (tmp_path / "run/inspect/cat.png").exists()
