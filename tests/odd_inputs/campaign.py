"""Damages good inputs of every reader and counts what becomes of them.

PYTHONPATH=.:tests python tests/odd_inputs/campaign.py --cases=30000 --seed=1 [--door=NAME]
"""

import argparse
import collections
import pathlib
import random
import sys
import tempfile
import time
import traceback

from doors import doors, same

from aepsl_tf.errors import InputError

OUTCOMES = ("refused", "same", "other", "uncaught", "wrong")
"""By one line; used, with the result of the good file; used, with another that no checksum tells
from a good one; a traceback; used although it must not be."""


def run(cases, seed, folder, only=""):
    """Runs a campaign.

    Args:
      cases: how many damaged inputs, over all doors by their shares.
      seed: of them all.
      folder: an empty one.
      only: the beginning of the doors' names.

    Returns:
      ({door: Counter of outcomes and "seconds"}, [(door, outcome, what was done, why)]).
    """
    chosen = [door for door in doors(folder) if door.name.startswith(only)]
    total = sum(door.share for door in chosen)
    counts, faults = {}, []
    for door in chosen:
        rng, start = random.Random(f"{seed} {door.name}"), time.monotonic()
        goods = [door.use(data) for data in door.goods]
        counts[door.name] = collections.Counter()
        for _ in range(max(round(cases * door.share / total), 1)):
            index = rng.randrange(len(door.goods))
            mutate = rng.choice(door.mutate)
            data, what = mutate(door.goods[index], rng, door.goods)
            outcome, why = _outcome(door, data, goods, index, mutate.__name__)
            counts[door.name][outcome] += 1
            if outcome in ("uncaught", "wrong"):
                faults.append((door.name, outcome, f"{what} → {data[:80]!r}", why))
        counts[door.name]["seconds"] = time.monotonic() - start
    return counts, faults


def _outcome(door, data, goods, index, how):
    try:
        result = door.use(data)
    except InputError as error:
        return ("refused", "") if "\n" not in str(error) else ("uncaught", f"two lines: {error}")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)
        own = [f for f in place if "aepsl_tf" in f.filename or "data_prep" in f.filename]
        last = (own or place)[-1]
        where = f"{pathlib.Path(last.filename).name}:{last.lineno}"
        return "uncaught", f"{type(error).__name__} at {where}: {str(error)[:200]}"
    if any(same(result, good) for good in goods):  # one may have been replaced by another
        return "same", ""
    why = door.judge(result, goods[index], data, how)
    return ("wrong", why) if why else ("other", "")


def table(counts):
    """The counts as a Markdown table."""
    lines = ["| reader | cases | refused | same | other | uncaught | wrong | s |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    total = collections.Counter()
    for name, found in [*counts.items(), ("all", total)]:
        if name != "all":
            total.update(found)
        numbers = [found[outcome] for outcome in OUTCOMES]
        cells = [name, sum(numbers), *numbers, f"{found['seconds']:.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--door", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = run(given.cases, given.seed, pathlib.Path(folder), given.door)
    print(table(counts))
    seen = set()
    for door, outcome, what, why in faults:
        if (kind := (door, outcome, why[:60])) not in seen:
            seen.add(kind)
            print(f"\n{door}: {outcome}: {why}\n    {what}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
