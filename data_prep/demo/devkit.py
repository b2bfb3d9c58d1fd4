"""The devkit's files, in the layout of PASCAL VOC."""

import csv
import json

import cv2
from PIL import Image

from aepsl_tf.errors import InputError
from data_prep.demo.animals import CLASSES
from data_prep.demo.scene import draw_scene

VERSION = 1
"""Of the drawings: raise it when a change alters any image, so that old folders are refused."""

JPEG_QUALITY = 92


def is_there(root, settings):
    """Whether `root` holds this very devkit; refuses a folder that holds anything else."""
    if not root.exists():
        return False
    try:
        found = json.loads((root / "demo.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{root} exists and is no demo set; remove it, or choose another --demo_root"
        ) from error
    for name, value in _recipe(settings).items():
        if found.get(name) != value:
            raise InputError(
                f"{root} was made with {name} = {found.get(name)}, now {name} = {value}; "
                f"remove {root}, or choose another --demo_root"
            )
    return True


def write(root, settings):
    """Draws a whole devkit into an empty folder; settings are those of a `config.MakeDemo`."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    labels = []
    for split, count in (("train", settings.demo_train), ("val", settings.demo_val)):
        names = [f"demo_{split}_{index:04d}" for index in range(1, count + 1)]
        for index, name in enumerate(names, start=1):
            image, mask, ids = draw_scene(settings.seed, split, index)
            _write_scene(root, name, image, mask)
            labels.append((name, " ".join(CLASSES.names[i - 1] for i in ids)))
        listing = root / f"ImageSets/Segmentation/{split}.txt"
        listing.write_text("".join(f"{name}\n" for name in names))
    with open(root / "image_labels.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "labels"), *labels])
    (root / "classes.json").write_text(json.dumps(CLASSES.to_json(), indent=1))
    (root / "demo.json").write_text(json.dumps(_recipe(settings), indent=1))


def _recipe(settings):
    """What the files of a devkit follow from; written to its demo.json."""
    names = ("demo_train", "demo_val", "seed")
    return {"version": VERSION, **{name: getattr(settings, name) for name in names}}


def _write_scene(root, name, image, mask):
    """Writes one image and its palette mask."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    cv2.imwrite(str(root / f"JPEGImages/{name}.jpg"), image[..., ::-1], quality)
    picture = Image.fromarray(mask, "P")
    picture.putpalette(CLASSES.palette().tobytes())
    picture.save(root / f"SegmentationClass/{name}.png")
