"""docs/paper_to_code.md: its files, functions, flags and tests exist, its values are the code's."""

import ast
import dataclasses
import functools
import pathlib
import re

import pytest

from aepsl_tf import config_flags

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "docs/paper_to_code.md").read_text()
NAMES = sorted(set(re.findall(r"`([^`]+)`", TEXT)))


@functools.cache
def definitions(file):
    """Functions, classes, methods and constants of a Python file; tests with their parameters."""
    found = set()

    def visit(body, prefix):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign):
                found.update(prefix + t.id for t in node.targets if isinstance(t, ast.Name))

    visit(ast.parse((ROOT / file).read_text()).body, "")
    return found


@functools.cache
def fields():
    """Flag → its dataclass field; a flag that phases share has one default."""
    return {f.name: f for cls in config_flags.config_classes() for f in dataclasses.fields(cls)}


def check_flag(flag, value):
    field = fields()[flag]
    choices = field.metadata["choices"]
    assert not value or not choices or value in choices, f"--{flag}={value}"


@pytest.mark.parametrize("name", NAMES)
def test_it_exists(name):
    flag = re.fullmatch(r"--(\w+)(?:=(.+))?", name)
    if flag:
        check_flag(*flag.groups())
    elif "::" in name:
        file, function = name.split("::")
        assert function in definitions(file)
    else:
        assert "/" in name, "neither a flag nor a file nor a function of a file"
        assert (ROOT / name).exists()


def rows(heading):
    """The cells of the table below a heading."""
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


@pytest.mark.parametrize(
    "heading",
    ["Equations and Algorithm 1", "Settings (§4.1)", "Tables and figures",
     "What the paper leaves open"],
)  # fmt: skip
def test_every_row_names_code_and_a_test(heading):
    for paper, code, flags, tests in rows(heading):
        assert re.search(r"`(aepsl_tf|data_prep)/[\w/]+\.py::", code), paper
        assert re.search(r"`tests/[\w/]+\.py::test_", tests), paper
        assert all(name.startswith("--") for name in re.findall(r"`([^`]+)`", flags)), paper


def letter():
    """Flag → value in flags/voc2012.flags."""
    lines = (ROOT / "flags/voc2012.flags").read_text().splitlines()
    pairs = (line[2:].partition("=") for line in lines if line.startswith("--"))
    return {flag: value or "true" for flag, _, value in pairs}


def same(one, other):
    try:
        return float(one) == float(other)
    except ValueError:
        return one.lower() == other.lower()


def test_settings_are_those_of_the_paper_s_flagfile():
    values = letter()
    settings = re.findall(r"`--(\w+)=([^`]+)`", str(rows("Settings (§4.1)")))
    assert len(settings) > 25
    for flag, value in settings:
        assert same(value, values.get(flag, str(fields()[flag].default))), f"--{flag}"
