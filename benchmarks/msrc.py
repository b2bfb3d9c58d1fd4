"""Lays MSRC v2 out as a team's own pictures: a folder, a list of tags and, to judge by, masks.

python -m benchmarks.msrc --msrc=msrc_v2 --output=own

MSRC_ROOT holds `images/ID.jpg`, `labels/ID.png` (class ids, 0 void) and `classes.txt` (their
names). Written are `photos`, `tags.csv`, `classes.txt` and `masks`. The classes are those of
`CLASSES`; pictures that show none of them get no tag. What is neither (grass, sky, other objects)
is background in the masks, MSRC's void is void.
"""

import pathlib
import shutil

import numpy as np
from absl import app, flags
from PIL import Image

CLASSES = ("aeroplane", "bicycle", "bird", "boat", "book", "car", "cat", "chair", "cow", "dog",
           "flower", "sheep", "sign")  # fmt: skip
"""Things of which there are two dozen pictures or more; people are left out, who are two classes
there (face, body) and seldom marked whole.
"""


def lay_out(msrc, output):
    """Returns {class: number of pictures}, with "" for those without a tag."""
    names = (msrc / "classes.txt").read_text().split()
    ids = np.full(256, 0, np.uint8)
    ids[0] = 255  # void
    for number, name in enumerate(CLASSES, start=1):
        ids[names.index(name)] = number
    for folder in ("photos", "masks"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    lines, counts = ["image,labels"], dict.fromkeys(("", *CLASSES), 0)
    for path in sorted((msrc / "labels").glob("*.png")):
        with Image.open(path) as labels:
            mask = ids[np.asarray(labels)]
        shown = [name for number, name in enumerate(CLASSES, start=1) if (mask == number).any()]
        Image.fromarray(mask).save(output / "masks" / path.name)
        shutil.copy(msrc / "images" / f"{path.stem}.jpg", output / "photos")
        lines.append(f"{path.stem}.jpg,{';'.join(shown)}")
        for name in shown or [""]:
            counts[name] += 1
    (output / "tags.csv").write_text("\n".join(lines) + "\n")
    (output / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return counts


def main(argv):
    del argv
    counts = lay_out(pathlib.Path(flags.FLAGS.msrc), pathlib.Path(flags.FLAGS.output))
    for name, count in counts.items():
        print(f"{count:4} {name or 'without a tag'}")


if __name__ == "__main__":
    flags.DEFINE_string("msrc", "", "the folder of MSRC v2")
    flags.DEFINE_string("output", "", "a folder for the set")
    app.run(main)
