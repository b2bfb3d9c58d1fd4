"""Says what of a run is finished, stale or half done, and why.

python -m aepsl_tf.status --run_dir=RUN

What is still to do depends on the settings: the pipeline's --dry_run says it.
"""

from aepsl_tf import config_flags
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import tables
from aepsl_tf.run_dir import RunDir


def states(run):
    """[(phase, state, why, seconds)] of everything that a run's manifest knows, and of what was
    begun and not published.
    """
    found, manifest = [], run.manifest()
    for key, entry in manifest.items():
        if not run.entry(key):
            found.append((key, "missing", f"{entry['output']} is not there any more", None))
            continue
        why = _why_stale(run, entry)
        found.append((key, "stale" if why else "finished", why, entry["seconds"]))
    for partial in sorted(run.root.rglob("*.partial")):
        place = str(partial.relative_to(run.root)).removesuffix(".partial")
        found.append((place, "half done", "the same command goes on with it", None))
    return found


def _why_stale(run, entry):
    """What of its inputs a phase was not made from, or ""."""
    for key, digest in entry["inputs"].items():
        before = run.entry(key)
        if before is None:
            return f"{key} is not there any more"
        if before["digest"] != digest:
            return f"{key} was made again since"
        if not run.is_current(key):
            return f"{key} is stale"
    return ""


def main(argv):
    del argv
    run = RunDir(config_flags.common("run_dir"))
    if not (found := states(run)):
        raise InputError(f"{run.root}: nothing was begun here")
    rows = [
        [key, state, "–" if seconds is None else f"{seconds:.0f}", why]
        for key, state, why, seconds in found
    ]
    tables.show(["phase", "state", "s", ""], rows)


if __name__ == "__main__":
    config_flags.run_app(main)
