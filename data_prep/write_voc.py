"""A VOC devkit → TFRecords: `images` with tags, and, apart from them, `ground_truth`.

python -m data_prep.write_voc --run_dir=RUN --voc_root=VOCdevkit/VOC2012 --split=train
"""

import csv
import functools
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.classes import BACKGROUND, VOC, VOID, ClassSet
from aepsl_tf.data import encoding, records, runners
from aepsl_tf.errors import InputError


def run(settings, run_dir, workers=0):
    """Writes one split of a devkit; see `config.WriteVoc`.

    Raises:
      InputError: missing or unreadable files, unknown tags, masks that are no class-id masks.
    """
    root = pathlib.Path(settings.voc_root)
    if not settings.voc_root or not (root / "JPEGImages").is_dir():
        raise InputError(f"--voc_root={settings.voc_root}: expected a folder that holds JPEGImages")
    classes = _classes(settings, root)
    ids = _ids(settings, root)
    _refuse_missing(ids, root / "JPEGImages", ".jpg")
    has_masks = settings.ground_truth == "auto" and _any(ids, root / "SegmentationClass", ".png")
    if has_masks:
        _refuse_missing(
            ids, root / "SegmentationClass", ".png", " (or add --ground_truth=none, --tags_from)"
        )
    source = _tag_source(settings, root, ids)
    key = f"write_voc/{settings.split}"
    new_truth = has_masks and run_dir.entry(f"{key}/ground_truth") is None
    in_masks = None
    if source == "masks" or new_truth:  # bad masks are refused before anything is written
        in_masks = _tags_in_masks(root, ids, classes, workers)
    tags = in_masks if source == "masks" else _tags(source, settings, root, ids, classes)
    logging.info("%s: %d images; tags from %s; ground truth: %s", settings.split, len(ids), source,
                 "written" if has_masks else "none")  # fmt: skip
    run_dir.fix_classes(classes)

    counts = records.split_counts(len(ids), settings.shards)
    shards = [ids[sum(counts[:i]) : sum(counts[: i + 1])] for i in range(len(counts))]

    tagged = [[(id_, tags[id_]) for id_ in shard] for shard in shards]

    def write_images(partial):
        make = functools.partial(_image_row, root / "JPEGImages")
        facts = functools.partial(_image_facts, partial, counts, source)
        records.write_family(
            partial, "images", counts, tagged.__getitem__, make, workers, facts=facts
        )

    def write_ground_truth(partial):
        make = functools.partial(_mask_row, root, len(classes))
        records.write_family(partial, "ground_truth", counts, shards.__getitem__, make, workers)

    run_dir.phase(key, settings, [], run_dir.family(settings.split, "images"), write_images)
    if has_masks:
        truth = run_dir.ground_truth(settings.split, "write_voc")
        run_dir.phase(f"{key}/ground_truth", settings, [key], truth, write_ground_truth)


def has_truth(settings):
    """Whether the split's ground truth will be written; False where there is no devkit."""
    root = pathlib.Path(settings.voc_root)
    if settings.ground_truth != "auto" or not (root / "SegmentationClass").is_dir():
        return False
    return _any(_ids(settings, root), root / "SegmentationClass", ".png")


def _classes(settings, root):
    if settings.classes_file:
        return ClassSet.load(settings.classes_file)
    own = root / "classes.json"
    return ClassSet.load(own) if own.exists() else VOC


def _ids(settings, root):
    path = root / "ImageSets" / "Segmentation" / f"{settings.split}.txt"
    path = pathlib.Path(settings.ids_file) if settings.ids_file else path
    if not path.exists():
        raise InputError(f"{path} is not there: give --split one of its neighbours, or --ids_file")
    ids = path.read_text().split()
    if not ids:
        raise InputError(f"{path} names no image: the split is empty")
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{path}: {twice} is listed twice; remove one of the two lines")
    return ids


def _any(ids, folder, suffix):
    return any((folder / (id_ + suffix)).exists() for id_ in ids)


def _refuse_missing(ids, folder, suffix, hint=""):
    missing = [id_ for id_ in ids if not (folder / (id_ + suffix)).exists()]
    if missing:
        some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise InputError(
            f"{folder}: expected {len(ids)} files, found {len(ids) - len(missing)}; "
            f"missing: {some}. Add them or take their ids out of the split{hint}"
        )


# ----------------------------------------------------------------------------------------- tags


def _tag_source(settings, root, ids):
    if settings.tags_from != "auto":
        return settings.tags_from
    if settings.labels_csv:
        return "csv"
    if _any(ids, root / "SegmentationClass", ".png"):
        return "masks"
    return "xml" if _any(ids, root / "Annotations", ".xml") else "none"


def _tags(source, settings, root, ids, classes):
    """Image id → sorted class ids, from any source but the masks."""
    if source == "none":
        return {id_: [] for id_ in ids}
    if source == "csv":
        return _csv_tags(settings.labels_csv, ids, classes)
    _refuse_missing(ids, root / "Annotations", ".xml")
    return {id_: _xml_tags(root / "Annotations" / f"{id_}.xml", classes) for id_ in ids}


def _tags_in_masks(root, ids, classes, workers):
    """Image id → sorted class ids of its mask, which is checked."""
    _refuse_missing(ids, root / "SegmentationClass", ".png")
    tags = {}
    read = functools.partial(_mask_tags, root, len(classes))
    with records.progress(len(ids), "read masks") as bar:
        for id_, present in zip(ids, runners.ordered_map(read, ids, workers), strict=True):
            tags[id_] = present
            bar.update()
    return tags


def _mask_tags(root, num_classes, id_):
    present = np.unique(_read_mask(root, id_, num_classes))
    return [int(c) for c in present if c not in (BACKGROUND, VOID)]


def _csv_tags(path, ids, classes):
    if not path:
        raise InputError("--tags_from=csv needs --labels_csv=FILE with columns image,labels")
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"--labels_csv={path}: {error.strerror}") from error
    if not rows or not {"image", "labels"} <= rows[0].keys():
        raise InputError(f"{path}: expected a first line `image,labels` and a line an image")
    names = {row["image"]: _split_names(row["labels"] or "", classes) for row in rows}
    missing = [id_ for id_ in ids if id_ not in names]
    if missing:
        raise InputError(
            f"{path}: expected tags of {len(ids)} images, found {len(ids) - len(missing)}; "
            f"missing: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"
        )
    return {id_: _class_ids(names[id_], classes, f"{path}: image {id_}") for id_ in ids}


def _split_names(text, classes):
    """Names separated by `;` or, where no class name holds a space, by spaces."""
    if ";" not in text and not any(" " in name for name in classes.names):
        return text.split()
    return [name.strip() for name in text.split(";") if name.strip()]


def _xml_tags(path, classes):
    try:
        names = [o.findtext("name") or "" for o in ElementTree.parse(path).iter("object")]
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not readable as XML ({error})") from error
    return _class_ids(names, classes, str(path))


def _class_ids(names, classes, where):
    try:
        return sorted({classes.id_of(name) for name in names})
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


# ----------------------------------------------------------------------------------------- rows


def _image_row(folder, item):
    id_, labels = item
    path = folder / f"{id_}.jpg"
    encoded, reason, height, width = encoding.standard_image(path.read_bytes(), str(path))
    return {
        "image/id": id_,
        "image/encoded": encoded,
        "image/converted_from": reason,
        "image/height": height,
        "image/width": width,
        "image/pixel_sum": encoding.pixel_sum(encoded),
        "image/labels": labels,
    }


def _image_facts(partial, counts, source):
    """The mean pixel of the split (§3.1), exact: integer sums over all images."""
    total, pixels = np.zeros(3, np.int64), 0
    for index in range(len(counts)):
        for row in records.read_shard(partial, "images", index, len(counts)):
            total += np.array(row["image/pixel_sum"])
            pixels += row["image/height"] * row["image/width"]
    return {"mean_pixel": [round(float(x), 4) for x in total / pixels], "tags_from": source}


def _read_mask(root, id_, num_classes):
    path = root / "SegmentationClass" / f"{id_}.png"
    mask = encoding.read_mask_png(path.read_bytes(), str(path))
    wrong = sorted({int(c) for c in np.unique(mask)} - {*range(num_classes + 1), VOID})
    if wrong:
        raise InputError(
            f"{path}: holds class id {wrong[0]}; expected 0..{num_classes} or {VOID}: "
            "mend the mask or give the right --classes_file"
        )
    return mask


def _mask_row(root, num_classes, id_):
    mask = _read_mask(root, id_, num_classes)
    return {"image/id": id_, "mask/png": encoding.grey_png(mask)}


if __name__ == "__main__":
    config_flags.run_phase(config.WriteVoc, run)
