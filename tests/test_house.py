"""Rooms know only what lies below them, wherever in a module they import it; and how graphs are
made.
"""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
STOREYS = (
    {"errors"},
    {"files"},
    {"config", "classes", "progress"},
    {"run_dir"},
    {"data"},
    {"models"},
    {"mining"},
    {"training", "inference"},
    {"evaluation"},
    {"config_flags", "report"},
    {"phases", "status"},
    {"pipeline", "experiments"},
)
"""From the ground up; `quiet` and the package itself lie below everything."""
LEVEL = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}
MAY_PREPARE = {"pipeline"}
"""Who may import `data_prep`."""
SIDEWAYS = {("training", "inference")}
"""On one storey; else rooms of one storey do not know each other."""


def room(module):
    """The room that a module's name lies in: of aepsl_tf, or data_prep; "" for anything else."""
    package, _, rest = module.partition(".")
    if package == "data_prep":
        return package
    return rest.partition(".")[0] if package == "aepsl_tf" else ""


def imports(tree):
    """Every module that is imported anywhere in a module's source, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong(module, source):
    """What a module imports that does not lie below it."""
    own = room(module)
    found = []
    for name in imports(ast.parse(source)):
        other = room(name)
        if other in ("", own) or other not in LEVEL.keys() | {"data_prep"}:
            continue
        if other == "data_prep":
            down = own in MAY_PREPARE
        else:
            down = LEVEL[other] < LEVEL[own] or (own, other) in SIDEWAYS
        if not down:
            found.append(name)
    return found


MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path
           for path in sorted((ROOT / "aepsl_tf").rglob("*.py"))}  # fmt: skip


def test_every_room_has_its_storey():
    rooms = {room(name) for name in MODULES} - {"__init__", "__main__", "quiet"}
    assert rooms == LEVEL.keys()


@pytest.mark.parametrize("name", [n for n in MODULES if room(n) in LEVEL])
def test_no_arrow_runs_up(name):
    assert wrong(name, MODULES[name].read_text()) == []


def test_the_test_sees_imports_in_functions():
    source = "def run():\n    def work():\n        from aepsl_tf.phases import relabel\n"
    assert wrong("aepsl_tf.models.network", source) == ["aepsl_tf.phases.relabel"]
    assert wrong("aepsl_tf.data.records", "import data_prep.tags") == ["data_prep.tags"]


def converted(source):
    """The lines of a module with a `tf.function`, or a function for tf.data, that AutoGraph would
    search for `if` and `while` over tensors, which takes seconds: here they are `tf.cond` and such.
    """
    nodes = list(ast.walk(ast.parse(source)))
    lines = [one.lineno for node in nodes if isinstance(node, ast.FunctionDef)
             for one in node.decorator_list if ast.unparse(one) == "tf.function"]  # fmt: skip
    for node in nodes:
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "tf.function" and "autograph=False" not in map(ast.unparse, node.keywords):
            lines.append(node.lineno)
        elif called.endswith(".map") and called != "threads.map":
            lines += [node.lineno] * ("_UNCONVERTED(" not in ast.unparse(node.args[0]))
    return lines


def test_no_graph_is_made_by_autograph():
    found = {name: converted(path.read_text()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}
    assert converted("@tf.function\ndef f(x):\n    return tf.function(g)(x)") == [1, 3]
    assert converted("rows.map(f)\nrows.map(_UNCONVERTED(f))\nthreads.map(f)") == [1]
