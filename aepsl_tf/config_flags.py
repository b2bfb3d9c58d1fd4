"""Dataclass ↔ absl flags: the only library file that knows absl.flags.

Every program defines the flags of every phase, so one flagfile serves a whole run. A field name
is a flag. Fields of `Network` and `Solver`, which two networks share, can be narrowed to one:
`--fc6_dilation=12 --classifier_fc6_dilation=2` gives the segmenter 12 and the classifier 2.

A program hears what it is asked before it loads what it needs to do it. So a phase's module
imports at its top what is light, and the rooms that bring TensorFlow, Keras or OpenCV at the top
of the `work` (or the function) that computes with them. --help, --dry_run, a setting or an input
that is refused and a phase that is finished load none of these; a test holds it.
"""

import dataclasses
import importlib
import inspect
import os
import pathlib
import sys

from absl import app, flags, logging

from aepsl_tf import config, quiet
from aepsl_tf.data import runners
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_text
from aepsl_tf.run_dir import RunDir

_COMMON = {
    "run_dir": ("", "the run: every file of it lies below this folder"),
    "share": (
        "",
        "folder of runs, this one among them, that share: what one has made with the same settings "
        "from the same inputs, the others take from it; one of them at a time",
    ),
    "verify": (False, "compare every input of a phase with its digest; else large ones by size"),
    "restart": (False, "redo this phase although it is finished or was begun with other settings"),
    "workers": (0, "processes for work on single images; 0 takes all cores"),
    "runner": (
        "local",
        "where record families are made: local, in --workers processes; beam, by Apache Beam "
        "(requirements-scale.txt)",
    ),
    "beam_args": (
        "",
        "options of Beam's own, with --runner=beam: the runner and its settings; default: "
        "--workers processes on this machine",
    ),
}
_HERE = pathlib.Path(__file__).parent
SHIPPED = _HERE.parent / "flags" if (_HERE.parent / "flags").is_dir() else _HERE / "flags"
"""The flagfiles and lists that the project brings: the checkout's or, installed, the package's."""


def config_classes():
    """All leaf config dataclasses: those of phases, not the bases they share."""
    members = [c for _, c in inspect.getmembers(config, inspect.isclass)]
    configs = [c for c in members if issubclass(c, config.Config)]
    return [c for c in configs if not c.__subclasses__()]


def _help(field):
    meta = field.metadata
    where = f" [{meta['paper']}]" if meta["paper"] else ""
    unit = f" ({meta['unit']})" if meta["unit"] else ""
    return f"{meta['help']}{unit}{where}; default {field.default!r}"


def _define(name, field, default):
    meta, text = field.metadata, _help(field)
    if meta["words"]:
        flags.DEFINE_string(name, default, text)
    elif field.type in (bool, "bool"):
        flags.DEFINE_bool(name, default, text)
    elif field.type in (int, "int"):
        flags.DEFINE_integer(name, default, text)
    elif field.type in (float, "float"):
        flags.DEFINE_float(name, default, text)
    elif meta["choices"]:
        flags.DEFINE_enum(name, default, list(meta["choices"]), text)
    else:
        flags.DEFINE_string(name, default, text)


def define():
    """Defines every flag once. Unset flags are None, so each dataclass keeps its own default."""
    if "run_dir" in flags.FLAGS:
        return
    for name, (default, text) in _COMMON.items():
        kind = {str: flags.DEFINE_string, bool: flags.DEFINE_bool, int: flags.DEFINE_integer}
        kind[type(default)](name, default, text)
    for cls in config_classes():
        for field in dataclasses.fields(cls):
            if field.name not in flags.FLAGS:
                _define(field.name, field, None)
            if cls in config.PREFIXES:
                _define(config.PREFIXES[cls] + field.name, field, None)


def read(cls, **changes):
    """A `cls` from the flags: the narrowed flag, else the flag, else the dataclass's default."""
    values = {}
    for field in dataclasses.fields(cls):
        names = [config.PREFIXES[cls] + field.name] if cls in config.PREFIXES else []
        for name in [*names, field.name]:
            if flags.FLAGS[name].value is not None:
                values[field.name] = flags.FLAGS[name].value
                break
    return cls(**values | changes)


def common(name):
    """The value of --run_dir, --restart or --share."""
    return flags.FLAGS[name].value


def workers():
    """--workers, --runner and --beam_args, as phases take them."""
    if common("workers") < 0:
        raise InputError(f"--workers={common('workers')}: expected at least 0")
    return runners.choose(*(flags.FLAGS[name].value for name in ("runner", "workers", "beam_args")))


def open_run(settings):
    """The --run_dir, as the worker that this process is under --strategy."""
    worker = 0
    strategy = getattr(settings, "strategy", "one_device")
    if strategy == "multi_worker" or (strategy == "auto" and "TF_CONFIG" in os.environ):
        # Set up first: it must precede all that TensorFlow does.
        from aepsl_tf.training import strategies

        worker, _ = strategies.worker(strategies.get(settings.strategy))
    return RunDir(common("run_dir"), common("restart"), worker, common("share"), common("verify"))


def _show_first(cls):
    """Makes --help show the flags that a command reads; the others are in --helpfull."""
    shown = list(_COMMON)
    for field in dataclasses.fields(cls):
        flags.FLAGS[field.name].help = _help(field)  # phases may mean different things by a name
        shown += [
            field.name,
            *([config.PREFIXES[cls] + field.name] if cls in config.PREFIXES else []),
        ]
    for name in shown:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])


def shipped():
    """The flagfiles that the project brings, in words."""
    names = " ".join(f"flags/{path.name}" for path in sorted(SHIPPED.glob("*.flags")))
    return f"the project brings {names} (to read in {SHIPPED})"


_SHIPPED_TOO = ("flagfile", "lists_dir", "ids_file")
"""Flags that may name what ships with the project."""


def expanded(arguments):
    """Arguments with every --flagfile=FILE replaced by its lines.

    Where there is no such file, `flags/NAME` of a flag that may is the project's own.

    Raises:
      InputError: there is no such file, or it is no text.
    """
    arguments = iter(arguments)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--flagfile", "-flagfile") and not equals:
            equals, value = "=", next(arguments, "")
        if name.lstrip("-") in _SHIPPED_TOO and value.startswith("flags/"):
            own = SHIPPED / value.removeprefix("flags/")
            value = str(own) if own.exists() and not os.path.exists(value) else value
        if name.lstrip("-") == "flagfile":
            if not os.path.isfile(value):
                raise InputError(f"--flagfile={value}: no such file; {shipped()}")
            lines = (line.strip() for line in read_text(value).split("\n"))
            yield from expanded(line for line in lines if line and not line.startswith(("#", "//")))
        else:
            yield name + equals + value


def run_app(main, cls=config.Config):
    """`app.run` with every flag defined; an `InputError` becomes one line and exit status 1.

    Args:
      main: `main(argv)`.
      cls: whose flags --help shows.
    """
    if sys.stdout is not None:  # where no UTF-8 is spoken, no result is lost for a δ or a dash
        sys.stdout.reconfigure(errors="backslashreplace")
    define()
    _show_first(cls)

    def guarded(argv):
        logging.set_verbosity(logging.INFO)
        logging.get_absl_handler().setFormatter(None)
        logging.get_absl_handler().addFilter(quiet.tells)
        if len(argv) > 1:
            raise app.UsageError(f"unexpected argument {argv[1]!r}: every setting is a --flag")
        try:
            main(argv)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)

    try:
        argv = list(expanded(sys.argv))
    except InputError as error:
        sys.exit(f"error: {error}")
    app.run(guarded, argv=argv)


def run_phase(cls, run):
    """The command line of a phase: flags → `cls` → `run(settings, run_dir, workers)`."""

    # Workers find functions by their module's name, and `__main__` is another module there.
    spec = sys.modules["__main__"].__spec__
    if run.__module__ == "__main__" and spec:
        run = getattr(importlib.import_module(spec.name), run.__name__)

    def main(argv):
        del argv
        settings = read(cls)
        run(settings, open_run(settings), workers())

    run_app(main, cls)
