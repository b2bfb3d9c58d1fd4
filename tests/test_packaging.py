"""What is installed: pyproject.toml says what running needs, requirements*.txt what was used."""

import ast
import importlib.metadata
import pathlib
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("aepsl_tf", "data_prep")


def _requirements(lines):
    """Canonical distribution name → `Requirement`."""
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in found}


def _pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return _requirements(line for line in lines if line and not line.startswith("#"))


CORE = _requirements(PROJECT["dependencies"])
EXTRAS = {name: _requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}
DECLARED = CORE | EXTRAS["cpu"] | EXTRAS["onnx"] | EXTRAS["scale"] | EXTRAS["dev"]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-scale.txt"])
def test_what_was_measured_is_within_the_bounds(name):
    for distribution, pin in _pins(name).items():
        (version,) = pin.specifier
        assert version.operator == "==", pin
        if distribution in DECLARED:
            assert DECLARED[distribution].specifier.contains(version.version), pin


def test_the_pins_are_what_running_and_testing_on_a_cpu_need():
    extras = EXTRAS["cpu"] | EXTRAS["onnx"] | EXTRAS["dev"]
    assert _pins("requirements.txt").keys() == (CORE | extras).keys()
    assert EXTRAS["scale"].keys() <= _pins("requirements-scale.txt").keys()


def test_nobody_is_given_a_tensorflow_or_a_test_tool():
    unasked = {"tensorflow", "tensorflow-cpu"}
    unasked |= {name for extra in ("dev", "onnx", "scale", "torch") for name in EXTRAS[extra]}
    assert not unasked & CORE.keys()
    assert EXTRAS["gpu"]["tensorflow"].extras == {"and-cuda"}


def _imported():
    """Top-level module → a file of the packages that imports it; the standard library's not."""
    found = {}
    for path in [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
            found |= {name.partition(".")[0]: path for name in names}
    return {k: v for k, v in found.items() if k not in {*sys.stdlib_module_names, *PACKAGES}}


def test_every_import_is_declared():
    installed = importlib.metadata.packages_distributions()
    declared = CORE | EXTRAS["cpu"] | EXTRAS["gpu"] | EXTRAS["onnx"] | EXTRAS["scale"]
    imported = _imported()
    assert {"tensorflow", "cv2", "apache_beam"} <= imported.keys()
    for module, path in imported.items():
        # Apache Beam need not be here, and is called what it is imported as.
        distributions = {canonicalize_name(d) for d in installed.get(module, [module])}
        known = not distributions.isdisjoint(declared)
        assert known, f"{path} imports {module}, which no requirement brings"
