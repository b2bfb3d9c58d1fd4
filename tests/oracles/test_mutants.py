"""The tests of this room fail when the code is broken on purpose; see `mutants`."""

import importlib
import pathlib
import re

import pytest
import tensorflow as tf
from mutants import MUTANTS, listed, put_in


def name(mutant):
    return f"{mutant.function}: {mutant.fault}"


def noticed(mutant, monkeypatch):
    """Whether the mutant's test fails with it."""
    room, function = mutant.test.split(".")
    test = getattr(importlib.import_module(room), function)
    put_in(mutant, monkeypatch)
    with pytest.raises((AssertionError, tf.errors.InvalidArgumentError)):
        getattr(test, "unshrunk", test)()


NETWORK = [m for m in MUTANTS if m.test.startswith("test_torch")]


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m not in NETWORK], ids=name)
def test_mutant(mutant, monkeypatch):
    noticed(mutant, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("mutant", NETWORK, ids=name)
def test_mutant_network(mutant, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    noticed(mutant, monkeypatch)


@pytest.mark.parametrize("mutant", NETWORK, ids=name)
def test_mutant_fits_the_code(mutant, monkeypatch):
    put_in(mutant, monkeypatch)


def test_mutants_are_listed():
    text = (pathlib.Path(__file__).parents[2] / "docs/paper_to_code.md").read_text()
    assert listed() in text


def test_each_oracle_has_a_mutant():
    files = pathlib.Path(__file__).parent.glob("test_*.py")
    tests = {
        f"{path.stem}.{name}"
        for path in files
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        if path.stem != "test_mutants"
    }
    assert tests == {mutant.test for mutant in MUTANTS}
