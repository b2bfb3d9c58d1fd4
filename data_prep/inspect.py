"""A first look at what was written, before hours go into a training: counts, doubts, advice.

python -m data_prep.inspect --run_dir=RUN

Reads images and tags alone, no ground truth. Prints tables and advice, and writes RUN/inspect:
`summary.json` and, for each tag, a sheet of examples.
"""

import collections
import io
import itertools
import re

import numpy as np
from PIL import Image

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import tables
from aepsl_tf.files import safe_name, to_json, write_atomic
from aepsl_tf.progress import progress

FEW = 20
"""Images of a tag below which a classifier hardly learns it."""
_ALIKE = 3  # bits of 64 in which the hashes of one picture, saved twice, may differ
_SMALL, _LONG = 64, 5.0  # pixels of the shorter side; sides' ratio
_EXAMPLES = 12  # pictures a sheet


def run(settings, run_dir, workers=0):
    """`look`, and RUN/inspect with a sheet of examples a tag; see `config.Inspect`.

    Returns:
      The summary.
    """
    summary = look(settings, run_dir, workers)
    folder, split = run_dir.root / "inspect", settings.train_split
    if not run_dir.entry(f"write_voc/{split}"):
        split = settings.val_split
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "summary.json", to_json(summary))
    _draw(folder, records.Family(run_dir.family(split, "images")), run_dir.classes().all_names())
    print(f"pictures: {folder}")
    return summary


def look(settings, run_dir, workers=0):
    """Looks at the splits that are written, prints and returns what was seen.

    Args:
      settings: anything with a train_split and a val_split.

    Returns:
      {"splits": split → counts, "twins": [[id, id]], "advice": [sentence]}.
    """
    splits = {
        split: records.Family(run_dir.family(split, "images"))
        for split in (settings.train_split, settings.val_split)
        if run_dir.entry(f"write_voc/{split}")
    }
    if not splits:
        raise InputError(
            f"{run_dir.root}: no split {settings.train_split} or {settings.val_split} is written "
            "there: run python -m data_prep.write_voc or write_folder first"
        )
    names = run_dir.classes().all_names()
    seen = {split: _seen(family, workers) for split, family in splits.items()}
    summary = {
        "splits": {split: _counts(found, names) for split, found in seen.items()},
        "twins": _twins(*seen.values()) if len(seen) == 2 else [],
    }
    summary["advice"] = advice(summary, settings.train_split)
    _print(summary, names)
    return summary


def _seen(family, workers):
    rows = ((row["image/encoded"], {k: row[k] for k in row if k != "image/encoded"})
            for row in family.read())  # fmt: skip
    with progress(family.images, "inspect") as bar:
        found = []
        for one in runners.ordered_map(_look, rows, workers):
            found.append(one)
            bar.update()
    return found


def _look(item):
    """What is kept of a picture: id, labels, size, why it was converted, hash, if it is flat."""
    encoded, row = item
    picture = Image.open(io.BytesIO(encoded))
    picture.draft("L", (64, 64))  # a JPEG is decoded at an eighth of its size
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])
    return {
        "id": row["image/id"],
        "labels": row["image/labels"],
        "size": (row["image/height"], row["image/width"]),
        "converted": row["image/converted_from"],
        "hash": int.from_bytes(bits.tobytes(), "big"),
        "flat": int(grey.max() - grey.min()) < 8,
    }


def _counts(found, names):
    labels = [[names[c] for c in one["labels"]] for one in found]
    pairs = collections.Counter(
        pair for some in labels for pair in itertools.combinations(sorted(some), 2)
    )
    sides = np.array([one["size"] for one in found])
    return {
        "images": len(found),
        "untagged": sum(not some for some in labels),
        "tags": {name: sum(name in some for some in labels) for name in names[1:]},
        "alone": {name: sum(some == [name] for some in labels) for name in names[1:]},
        "together": [[*pair, count] for pair, count in pairs.most_common(50)],
        "megapixels": [round(float(q) / 1e6, 2) for q in np.quantile(sides.prod(1), (0, 0.5, 1))],
        "converted": dict(
            collections.Counter(one["converted"] for one in found if one["converted"])
        ),
        "suspicious": _suspicious(found),
    }


def _suspicious(found):
    doubts = {}
    for one in found:
        short, long = sorted(one["size"])
        words = [word for word, holds in (
            (f"less than {_SMALL} pixels high or wide", short < _SMALL),
            (f"more than {_LONG:g} times as long as wide", long > _LONG * short),
            ("of one brightness", one["flat"])) if holds]  # fmt: skip
        if words:
            doubts[one["id"]] = ", ".join(words)
    return doubts


def _twins(train, val):
    """[(id, id)] of a picture of `train` for each of `val` that looks the same, whatever their size
    or format.
    """
    bands = [collections.defaultdict(list) for _ in range(4)]

    def parts(number):
        return [(number >> 16 * band) & 0xFFFF for band in range(4)]

    for one in train:
        if not one["flat"]:  # flat pictures all look alike
            for band, part in zip(bands, parts(one["hash"]), strict=True):
                band[part].append(one)
    twins = []
    for other in (one for one in val if not one["flat"]):
        # Three bits cannot differ in all four parts.
        near = itertools.chain.from_iterable(
            band.get(part, ()) for band, part in zip(bands, parts(other["hash"]), strict=True)
        )
        alike = (one for one in near if (one["hash"] ^ other["hash"]).bit_count() <= _ALIKE)
        if one := next(alike, None):
            twins.append([one["id"], other["id"]])
    return twins


def _is_joined(name, tags):
    """Whether a tag is made of others, as in a list that parts them by spaces."""
    parts = re.split(r"[\s/+&]+", name)
    return len(parts) > 1 and all(part in tags for part in parts)


def advice(summary, train_split):
    """Sentences that say what to do."""
    said = []
    counts = summary["splits"].get(train_split)
    if counts:
        joined = [name for name in counts["tags"] if _is_joined(name, counts["tags"])]
        never = [name for name, count in counts["tags"].items() if count == 0]
        few = {name: n for name, n in counts["tags"].items() if 0 < n < FEW}
        if joined:
            said.append(
                f"Tags that look like several in one: {_listed(joined)}: part them by a semicolon."
            )
        if counts["untagged"]:
            said.append(
                f"{counts['untagged']} pictures have no tag: --untagged says what they are."
            )
        if never:
            said.append(f"No picture of {_listed(never)}: nothing will be learned of it.")
        if few:
            told = _listed([f"{name} ({count})" for name, count in few.items()])
            said.append(f"Few pictures of {told}: add some, {FEW} at least.")
        for *pair, count in counts["together"]:
            for one, other in itertools.permutations(pair):
                if counts["tags"].get(one, 0) == count >= 5:
                    said.append(
                        f"{one} never comes without {other}: tags alone cannot tell them apart. "
                        f"Add pictures of {one} without it."
                    )
        whole = [n for n, c in counts["tags"].items() if c == counts["images"] > 1]
        if whole:
            said.append(
                f"Every picture has {_listed(whole)}: add pictures without, or nothing tells it "
                "from the background."
            )
    for split, of_split in summary["splits"].items():
        if of_split["suspicious"]:
            some = list(of_split["suspicious"].items())
            said.append(
                f"{split}: {len(some)} pictures are odd, such as {some[0][0]} ({some[0][1]}): look "
                "at them."
            )
    if summary["twins"]:
        one, other = summary["twins"][0]
        said.append(
            f"{len(summary['twins'])} pictures look the same in both splits, such as {one} and "
            f"{other}: what is measured on them flatters. Take them out of one list."
        )
    return said or ["Nothing to mend was seen."]


def _listed(names):
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _print(summary, names):
    splits = summary["splits"]
    tables.show(
        ["tag", *(f"{split}{what}" for split in splits for what in ("", ", alone"))],
        [
            [name, *(str(splits[s][what][name]) for s in splits for what in ("tags", "alone"))]
            for name in names[1:]
        ],
    )
    rows = [["pictures", *(str(splits[s]["images"]) for s in splits)],
            ["without a tag", *(str(splits[s]["untagged"]) for s in splits)],
            ["megapixels, least; median; most",
             *("; ".join(f"{m:g}" for m in splits[s]["megapixels"]) for s in splits)],
            ["converted", *(_listed([f"{n} ({c})" for n, c in splits[s]["converted"].items()]) or
                            "none" for s in splits)]]  # fmt: skip
    tables.show(["", *splits], rows)
    for sentence in summary["advice"]:
        print(sentence)


def _draw(folder, family, names):
    """A sheet of the first pictures of each tag."""
    from aepsl_tf.inference import drawing

    chosen = collections.defaultdict(list)
    for row in family.read():
        for label in row["image/labels"]:
            if len(chosen[label]) < _EXAMPLES:
                shown = encoding.rgb_pixels(row["image/encoded"])
                scale = max(1, max(shown.shape) // 360)
                chosen[label].append((row["image/id"], shown[::scale, ::scale]))
    for label, cells in chosen.items():
        rows = [cells[i : i + 4] for i in range(0, len(cells), 4)]
        sheet = drawing.panel(rows, title=names[label])
        (folder / f"{safe_name(names[label])}.png").write_bytes(encoding.rgb_png(sheet))


if __name__ == "__main__":
    config_flags.run_phase(config.Inspect, run)
