"""Every setting is a flag, every flag reaches its setting, and every setting is read somewhere."""

import ast
import dataclasses
import pathlib
import shlex

import pytest
from absl import flags
from absl.testing import flagsaver

from aepsl_tf import config, config_flags
from aepsl_tf.data import runners
from aepsl_tf.errors import InputError

ROOT = pathlib.Path(config_flags.__file__).parents[1]
CLASSES = config_flags.config_classes()
FLAGFILES = sorted((ROOT / "flags").glob("*.flags"))


@pytest.fixture
def parse():
    """`parse(*flags)` as the command line would; all is as before after the test."""
    config_flags.define()
    saved = flagsaver.save_flag_values()
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()

    def parse(*arguments):
        assert flags.FLAGS(["program", *arguments]) == ["program"]

    yield parse
    flagsaver.restore_flag_values(saved)


def _other(field):
    """A value that is not the default, and may stand for it."""
    special = {
        "input_size": 225, "threshold": 0.75, "pixel_limit": 8192, "input": "warp",
        "freeze_through": "conv3", "cache_features": True, "psl_start": 7,
    }  # fmt: skip
    if field.name in special:
        return special[field.name]
    if field.metadata["choices"]:
        return next(c for c in field.metadata["choices"] if c != field.default)
    if isinstance(field.default, bool):
        return not field.default
    if field.metadata["kind"] == "epochs":
        return "7"
    if field.metadata["kind"] == "scales":
        return "0.5,1"
    meta = field.metadata
    if meta["high"] == 1 or meta["below"] == 1:
        return 0.625
    if meta["high"] is not None:
        return max(field.default - 1, meta["low"]) if meta["low"] is not None else field.default - 1
    return field.default + ("x" if isinstance(field.default, str) else 1)


def _flag(name, value):
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"


# ------------------------------------------------------------------------------- fields and flags


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_defaults_without_flags(cls, parse):
    parse()
    assert config_flags.read(cls) == cls()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_field_has_a_flag_that_sets_it(cls, parse):
    values = {field.name: _other(field) for field in dataclasses.fields(cls)}
    parse(*(_flag(name, value) for name, value in values.items()))
    read = config_flags.read(cls)
    assert dataclasses.asdict(read) == values
    assert all(type(getattr(read, f.name)) is f.type for f in dataclasses.fields(cls))


def test_every_phase_is_among_the_classes():
    names = {c.__name__ for c in CLASSES}
    assert {"MakeDemo", "WriteVoc", "TrainClassifier", "TrainSegmenter", "Pipeline"} <= names
    assert not names & {"Config", "Devices", "Network", "Solver", "Inference"}


@pytest.mark.parametrize(
    ("prefix", "cls", "other"),
    [
        ("classifier_", config.TrainClassifier, config.TrainSegmenter),
        ("segmenter_", config.TrainSegmenter, config.TrainClassifier),
    ],
)
def test_narrowed_flags_win_over_the_common_one(prefix, cls, other, parse):
    common = {f.name for f in dataclasses.fields(other)}
    for field in dataclasses.fields(cls):
        assert prefix + field.name in flags.FLAGS
    parse("--epochs=3", f"--{prefix}epochs=4", f"--{prefix}fc6_dilation=2", "--dropout=0.25")
    assert {"epochs", "fc6_dilation", "dropout"} <= common
    assert config_flags.read(cls).epochs == 4
    assert config_flags.read(other).epochs == 3
    assert config_flags.read(cls).fc6_dilation == 2
    assert config_flags.read(other).fc6_dilation == 12
    assert config_flags.read(cls).dropout == config_flags.read(other).dropout == 0.25
    assert config_flags.read(cls, epochs=9).epochs == 9


@pytest.mark.parametrize("argument", ["--no_such_flag=1", "--classifier_threshold=0.3"])
def test_unknown_flags_are_refused(argument, parse):
    with pytest.raises(flags.UnrecognizedFlagError, match=argument[2:].split("=")[0]):
        parse(argument)


@pytest.mark.parametrize(
    "argument",
    ["--method=best", "--epochs=many", "--crf=perhaps", "--classifier_epochs=x"],
)
def test_bad_values_are_refused_with_the_flag_named(argument, parse):
    with pytest.raises(flags.IllegalFlagValueError, match=argument[2:].split("=")[0]):
        parse(argument)


@pytest.mark.parametrize(
    ("cls", "argument"),
    [
        (config.TrainClassifier, "--epochs=0"),
        (config.TrainClassifier, "--classifier_global_batch=-1"),
        (config.TrainSegmenter, "--input_size=320"),
        (config.TrainSegmenter, "--cache_features"),
        (config.MineRegions, "--threshold=-0.5"),
        (config.MineRegions, "--threshold=low"),
        (config.MakeMasks, "--merge_steps=1.5"),
        (config.Predict, "--pixel_limit=1"),
        (config.Predict, "--multi_scale=0.5,half"),
        (config.Predict, "--multi_scale=1,1"),
        (config.Evaluate, "--multi_scale=9"),
        (config.Predict, "--batch=0"),
        (config.Pipeline, "--max_steps=0"),
    ],
)
def test_values_out_of_range_are_refused_in_one_line(cls, argument, parse):
    parse(argument)
    with pytest.raises(InputError) as error:
        config_flags.read(cls)
    assert argument[2:].split("=")[0].removeprefix("classifier_") in str(error.value)
    assert "\n" not in str(error.value)


def test_runner_flags_reach_the_phases(parse, monkeypatch):
    parse("--workers=3")
    assert config_flags.workers() == 3
    monkeypatch.setattr(runners.importlib.util, "find_spec", lambda name: True)
    parse("--workers=3", "--runner=beam", "--beam_args=--runner=FlinkRunner")
    assert config_flags.workers() == runners.Beam(3, "--runner=FlinkRunner")
    parse("--runner=local")
    with pytest.raises(InputError, match="--beam_args"):
        config_flags.workers()


def test_a_word_may_stand_for_a_number(parse):
    parse("--threshold=auto", "--merge_steps=auto", "--psl_start=3")
    assert config_flags.read(config.MineRegions).threshold == "auto"
    assert config_flags.read(config.MakeMasks).merge_steps == "auto"
    assert config_flags.read(config.TrainSegmenter).psl_start == 3


def test_help_names_default_and_source(parse):
    text = flags.FLAGS["threshold"].help
    assert "0.2" in text and "§4.1" in text


@pytest.mark.parametrize("file", FLAGFILES, ids=lambda f: f.name)
def test_flagfiles(file, parse):
    parse(f"--flagfile={file}")
    for cls in CLASSES:
        config_flags.read(cls)
    lines = [line.strip() for line in file.read_text().splitlines()]
    given = [line for line in lines if line.startswith("-")]
    assert given
    given = [line for line in given if not line.startswith("--flagfile=")]  # absl's own
    for argument in given:
        name = shlex.split(argument)[0].lstrip("-").split("=")[0]
        assert flags.FLAGS[name.removeprefix("no") if name not in flags.FLAGS else name].present


@pytest.mark.parametrize("file", FLAGFILES, ids=lambda f: f.name)
def test_flagfiles_leave_to_each_machine_what_is_fast_there(file, parse):
    parse(f"--flagfile={file}")
    for cls in (config.TrainClassifier, config.TrainSegmenter):
        assert config_flags.read(cls).unsettled().keys() == {"precision", "kernel_gradients"}


def test_only_what_is_shipped_is_meant_by_flags(monkeypatch, tmp_path):
    """Where there is no such folder; a run may be called so."""
    monkeypatch.chdir(tmp_path)
    given = ["--ids_file=flags/demo.flags", "--run_dir=flags/run", "--output=flags/experiments"]
    own, *others = config_flags.expanded(given)
    assert own == f"--ids_file={config_flags.SHIPPED / 'demo.flags'}"
    assert others == given[1:]


def test_there_are_flagfiles():
    assert {"demo.flags"} <= {file.name for file in FLAGFILES}


# ----------------------------------------------------------------------------- settings have effect

_HOLDERS = {"settings", "config", "s"}


def _fields_read():
    """Names read as `settings.NAME`, `model.config.NAME`, … anywhere but in config.py."""
    found = set()
    for file in [*ROOT.glob("aepsl_tf/**/*.py"), *ROOT.glob("data_prep/**/*.py")]:
        if file.name in ("config.py", "config_flags.py"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                holder, name = node.value, node.attr
            elif (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "getattr"
                and isinstance(node.args[1], ast.Constant)
            ):
                holder, name = node.args[0], node.args[1].value
            else:
                continue
            holder = getattr(holder, "attr", None) or getattr(holder, "id", None)
            if holder in _HOLDERS:
                found.add(name)
    return found


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_setting_is_read_somewhere(cls):
    nobody_reads = {field.name for field in dataclasses.fields(cls)} - _fields_read()
    assert not nobody_reads


def test_the_scan_would_notice():
    assert "threshold" in _fields_read()
    assert "no_such_setting" not in _fields_read()
