"""CONTRIBUTING.md: its patches fit the tree, and the tests that they bring pass."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
PATCHES = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```diff\n(.*?)^```$", TEXT, re.M | re.S))
ROOMS = ("aepsl_tf", "data_prep", "flags", "tests", "pyproject.toml")


def apply(patch, folder, *options):
    return subprocess.run(
        ["git", "apply", *options, "-"], input=patch, cwd=folder, text=True, capture_output=True,
        env=dict(os.environ, GIT_CEILING_DIRECTORIES=str(folder.parent)),  # a folder, no repository
    )  # fmt: skip


def brought(patch):
    """pytest's names of the tests that a patch adds."""
    for file, body in re.findall(r"^\+\+\+ b/(tests/\S+)\n(.*?)(?=^diff |\Z)", patch, re.M | re.S):
        yield from (f"{file}::{name}" for name in re.findall(r"^\+def (test_\w+)", body, re.M))


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    unmade = shutil.ignore_patterns("__pycache__")
    for name in ROOMS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=unmade)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_each_patch_fits_the_tree_alone(copy):
    assert PATCHES.keys() == {"A saliency method", "A backbone", "An erasing rule"}
    for name, patch in PATCHES.items():
        done = apply(patch, copy, "--check")
        assert done.returncode == 0, f"{name}: {done.stderr}"
        assert list(brought(patch)), name


def test_all_together_do_what_they_say(copy):
    """The tests that they bring pass with them and fail without."""
    names = [name for patch in PATCHES.values() for name in brought(patch)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *names]
    for patch in PATCHES.values():
        done = apply(patch, copy)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and f"{len(names)} passed" in done.stdout, done.stdout[-2000:]
    for room in ("aepsl_tf", "data_prep"):
        shutil.rmtree(copy / room)
        shutil.copytree(ROOT / room, copy / room)
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300)
    assert f"{len(names)} failed" in done.stdout, done.stdout[-2000:]


def test_the_house_it_draws_stands():
    drawn = re.search(r"```text\n(.*?)^```", TEXT, re.M | re.S)[1]
    for folder in re.findall(r"(\w+)/  ", drawn):
        assert (ROOT / folder).is_dir() or (ROOT / "aepsl_tf" / folder).is_dir(), folder
    for name in re.findall(r"\]\(([^)]+)\)|`(tests/\S+?)`", TEXT):
        assert (ROOT / "".join(name)).exists(), name
