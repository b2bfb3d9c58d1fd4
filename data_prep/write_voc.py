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
from aepsl_tf.files import Content


def run(settings, run_dir, workers=0):
    """Writes one split of a devkit; see `config.WriteVoc`.

    A split that is written already is compared with the devkit by the list of its images, the
    class file and the tag file, which are read, and by the pictures, masks or XML files that were
    read then: by names, sizes and times, and by what they hold where these are not the same. No
    picture and no mask is decoded. What is not there any more is not compared: a list that is
    gone, or one of the folders, and then no file below the devkit.

    Raises:
      InputError: missing or unreadable files, unknown tags, masks that are no class-id masks.
    """
    key, truth_key = f"write_voc/{settings.split}", f"write_voc/{settings.split}/ground_truth"
    done = run_dir.entry(key)
    keeps = done and not run_dir.restart
    devkit = _Devkit(settings, done["facts"].get("tags_from") if keeps else None)
    if not done and run_dir.chief:  # else these may not be needed
        devkit.refuse_missing()

    def write_images(partial):
        devkit.refuse_missing()
        logging.info("%s: tags from %s; ground truth: %s", settings.split, devkit.tags_from,
                     devkit.truth_in_words())  # fmt: skip
        classes, in_masks = devkit.classes(), None
        if devkit.tags_from == "masks" or devkit.has_truth:  # bad masks are refused first
            in_masks = _tags_in_masks(devkit.root, devkit.ids, classes, workers)
        tags = in_masks if devkit.tags_from == "masks" else _tags(devkit, classes)
        run_dir.fix_classes(classes)
        counts, shards = devkit.shards()
        tagged = [[(id_, tags[id_]) for id_ in shard] for shard in shards]
        make = functools.partial(_image_row, devkit.root / _PICTURES)
        facts = functools.partial(_image_facts, partial, counts, devkit.tags_from)
        records.write_family(
            partial, "images", counts, tagged.__getitem__, make, workers, facts=facts
        )
        return {"tags_from": devkit.tags_from, "ground_truth": devkit.has_truth}

    def write_ground_truth(partial):
        devkit.refuse_missing(truth=True)
        counts, shards = devkit.shards()
        make = functools.partial(_mask_row, devkit.root, len(devkit.classes()))
        records.write_family(partial, "ground_truth", counts, shards.__getitem__, make, workers)

    images = run_dir.family(settings.split, "images")
    facts = run_dir.phase(key, settings, [], images, write_images, reads=devkit.for_images())
    # Truth that was written for these images is compared, even where its masks are not whole now.
    written = settings.ground_truth != "none" and run_dir.is_current(truth_key)
    if devkit.has_truth or facts.get("ground_truth") or written:
        run_dir.phase(
            truth_key, settings, [key],
            run_dir.ground_truth(settings.split, "write_voc"), write_ground_truth,
            reads=devkit.for_ground_truth(),
        )  # fmt: skip
    elif run_dir.chief:
        run_dir.forget(truth_key)  # of images that were redone without it


_PICTURES, _MASKS, _XML = "JPEGImages", "SegmentationClass", "Annotations"
_SUFFIXES = {_PICTURES: ".jpg", _MASKS: ".png", _XML: ".xml"}
_LISTS = pathlib.Path("ImageSets", "Segmentation")


def has_truth(settings):
    """Whether the split's ground truth will be written; False where there is no devkit."""
    return _Devkit(settings).has_truth


class _Devkit:
    """One split of a devkit, by names: of all its files only the list of images is read.

    Args:
      settings: `config.WriteVoc`.
      before: where the tags came from when the split was written, or None. With --tags_from=auto
        they still do: masks that were added since give it ground truth, not other tags.

    Attributes:
      root: the folder.
      ids: of the images; none where there is no list, or no devkit any more.
      with_mask: how many of them have a mask.
      tags_from: masks, xml, csv or none.
      has_truth: whether the split has ground truth: a mask for every image, and it is wanted.
    """

    def __init__(self, settings, before=None):
        self.settings, self.root = settings, pathlib.Path(settings.voc_root)
        self._list = _list_of(settings, self.root)
        self._classes = pathlib.Path(settings.classes_file or self.root / "classes.json")
        self.ids = _ids(self._list) if self._list.is_file() else []
        self._missing = {
            folder: [i for i in self.ids if not (self.root / folder / (i + suffix)).exists()]
            for folder, suffix in _SUFFIXES.items()
        }
        self.with_mask = len(self.ids) - len(self._missing[_MASKS])
        all_masks = bool(self.ids) and self.with_mask == len(self.ids)
        self.has_truth = settings.ground_truth == "auto" and all_masks
        self.tags_from = settings.tags_from
        if self.tags_from == "auto":
            if settings.labels_csv:
                self.tags_from = "csv"
            elif before in ("masks", "xml", "none"):
                self.tags_from = before
            elif all_masks:
                self.tags_from = "masks"
            else:
                has_xml = len(self._missing[_XML]) < len(self.ids)
                self.tags_from = "xml" if has_xml else "none"

    def _is_there(self):
        return bool(self.settings.voc_root) and (self.root / _PICTURES).is_dir()

    def refuse_missing(self, truth=False):
        """Refuses a split, or its ground truth, that cannot be written for want of files."""
        if not self._is_there():
            raise InputError(
                f"--voc_root={self.settings.voc_root}: expected a folder that holds {_PICTURES}"
            )
        if not self._list.is_file():
            lists = _lists(self.settings, self.root)
            raise InputError(
                f"--ids_file={self.settings.ids_file}: not there, nor in {lists}"
                if self.settings.ids_file
                else f"{self._list} is not there: give --split one of the lists in {lists}, or "
                "--ids_file"
            )
        for folder in (_PICTURES, _MASKS) if truth else self._read_for_images():
            if missing := self._missing[folder]:
                some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
                hint = "" if folder == _PICTURES else ", or give another --tags_from"
                raise InputError(
                    f"{self.root / folder}: expected {len(self.ids)} files, found "
                    f"{len(self.ids) - len(missing)}; missing: {some}. Add them or take their "
                    f"ids out of the split{hint}"
                )

    def truth_in_words(self):
        if self.has_truth:
            return f"{len(self.ids)} masks"
        if self.settings.ground_truth == "none":
            return "none (--ground_truth=none)"
        return f"none, {self.with_mask} of {len(self.ids)} masks are there"

    def classes(self):
        return ClassSet.load(self._classes) if self._own_classes() else VOC

    def _own_classes(self):
        """Whether there is a class file: one that is missing, but was asked for, is one too."""
        return bool(self.settings.classes_file) or self._classes.exists()

    def shards(self):
        """(images a shard, ids a shard)."""
        counts = records.split_counts(len(self.ids), self.settings.shards)
        return counts, [self.ids[sum(counts[:i]) :][:n] for i, n in enumerate(counts)]

    def _read_for_images(self):
        return [_PICTURES, *({"masks": [_MASKS], "xml": [_XML]}.get(self.tags_from, []))]

    def _content(self, folders):
        """What is read for either family, with the split's files in folders of the devkit."""
        names = [f"{folder}/{id_}{_SUFFIXES[folder]}" for folder in folders for id_ in self.ids]
        # Where the devkit is gone its class file is, and not none.
        has_classes = self._own_classes() or not self._is_there()
        return {
            "voc_root": Content(self.settings.voc_root, self.root, names),
            "ids_file": Content(self.settings.ids_file, self._list),
            "classes_file": (
                Content(self.settings.classes_file, self._classes) if has_classes else None
            ),
        }

    def for_images(self):
        """What the images and their tags are read from, as `RunDir.phase` takes it."""
        csv_file = self.settings.labels_csv if self.tags_from == "csv" else None
        return self._content(self._read_for_images()) | {"labels_csv": csv_file}

    def for_ground_truth(self):
        """What the ground truth is read from."""
        return self._content([_MASKS])


def _lists(settings, root):
    return pathlib.Path(settings.lists_dir) if settings.lists_dir else root / _LISTS


def _list_of(settings, root):
    """The list of the split's images: --ids_file, here or among the lists, or one of these."""
    own = _lists(settings, root)
    if not settings.ids_file:
        return own / f"{settings.split}.txt"
    here = pathlib.Path(settings.ids_file)
    return own / here if not here.exists() and (own / here).exists() else here


def _ids(path):
    ids = path.read_text().split()
    if not ids:
        raise InputError(f"{path} names no image: the split is empty")
    if len(set(ids)) != len(ids):
        seen = set()
        twice = next(i for i in ids if i in seen or seen.add(i))
        raise InputError(f"{path}: {twice} is listed twice; remove one of the two lines")
    return ids


# ----------------------------------------------------------------------------------------- tags


def _tags(devkit, classes):
    """Image id → sorted class ids, from any source but the masks."""
    ids = devkit.ids
    if devkit.tags_from == "none":
        return {id_: [] for id_ in ids}
    if devkit.tags_from == "csv":
        return _csv_tags(devkit.settings.labels_csv, ids, classes)
    return {id_: _xml_tags(devkit.root / _XML / f"{id_}.xml", classes) for id_ in ids}


def _tags_in_masks(root, ids, classes, workers):
    """Image id → sorted class ids of its mask, which is checked."""
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
    path = root / _MASKS / f"{id_}.png"
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
