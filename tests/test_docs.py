"""What the documents name is there, where they say."""

import importlib
import pathlib
import re

import pytest
from absl import flags

from aepsl_tf import config_flags

ROOT = pathlib.Path(config_flags.__file__).parents[1]
TABLE = re.findall(r"^\|.*\|$", (ROOT / "docs/paper_to_code.md").read_text(), re.MULTILINE)
NAMED = sorted({name for row in TABLE for name in re.findall(r"`([^`]+)`", row)})


def _module_of(names):
    """(the module of a dotted name, what is named in it)."""
    for end in range(len(names), 0, -1):
        module = ".".join(names[:end])
        try:
            return importlib.import_module(module), names[end:]
        except ModuleNotFoundError as error:
            if not module.startswith(error.name):  # one that this module wants
                raise
    raise AssertionError(f"{names[0]} is no package")


@pytest.mark.parametrize("named", NAMED)
def test_paper_to_code_names_what_is_there(named):
    """A method is named where it is written, not where it is inherited."""
    name, *arguments = named.split()
    config_flags.define()
    for flag in [a for a in (name, *arguments) if a.startswith("--")]:
        assert flag[2:].split("=")[0] in flags.FLAGS
    if name.startswith("--"):
        return
    package = "" if name.startswith("data_prep.") else "aepsl_tf."
    owner, rest = _module_of((package + name).split("."))
    for part in rest:
        owner = vars(owner)[part]


def test_the_document_has_names():
    assert len(NAMED) > 15
