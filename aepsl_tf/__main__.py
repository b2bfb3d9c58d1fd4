"""`aepsl`: every command by its name.

aepsl                            lists the commands, in the order of a run
aepsl NAME …                     is python -m …NAME …
aepsl status --run_dir=RUN       says what is finished, stale or half done, and why
"""

import ast
import difflib
import importlib.util
import pathlib
import runpy
import sys

COMMANDS = {
    "make_demo": "data_prep", "download_voc": "data_prep",
    "pipeline": "aepsl_tf", "experiments": "aepsl_tf", "status": "aepsl_tf",
    "write_voc": "data_prep", "write_folder": "data_prep", "inspect": "data_prep",
    "write_saliency": "data_prep", "train_saliency": "data_prep",
    "train_classifier": "aepsl_tf.phases", "choose_threshold": "aepsl_tf.phases",
    "mine_regions": "aepsl_tf.phases", "write_erased": "data_prep",
    "make_masks": "aepsl_tf.phases", "supervised_masks": "aepsl_tf.phases",
    "train_segmenter": "aepsl_tf.phases", "relabel": "aepsl_tf.phases",
    "evaluate": "aepsl_tf.phases", "predict": "aepsl_tf.phases", "export": "aepsl_tf.phases",
    "report": "aepsl_tf.phases",
}  # fmt: skip
"""Command → the package of its module; what makes pictures ready, whole runs, then the phases."""


def summary(name):
    """The first line of a command's module, which is not imported for it."""
    package = importlib.util.find_spec(COMMANDS[name])
    path = pathlib.Path(package.origin).with_name(f"{name}.py")
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n\n")[0]


def main():
    """The console command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "help"
    if name in COMMANDS:
        module = f"{COMMANDS[name]}.{name}"
        sys.argv = [module, *sys.argv[2:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    if sys.stdout is not None:  # as `config_flags.run_app`
        sys.stdout.reconfigure(errors="backslashreplace")
    if name in ("help", "--help", "-h"):
        print("usage: aepsl COMMAND --flag=value …   (aepsl COMMAND --help: its flags)\n")
        for command in COMMANDS:
            print(f"  {command:17} {' '.join(summary(command).split())}")
        from aepsl_tf import config_flags

        print(f"\n--flagfile=FILE stands for the flags in it: {config_flags.shipped()}")
        return
    near = difflib.get_close_matches(name, COMMANDS, 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else "aepsl alone lists them"
    print(f"error: {name!r} is no command: {hint}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
