"""A VOC devkit → TFRecords: `images` with tags, and, apart from them, `ground_truth`.

python -m data_prep.write_voc --run_dir=RUN --voc_root=VOCdevkit/VOC2012 --split=train
"""

import dataclasses
import functools
import itertools

import numpy as np
from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.classes import BACKGROUND, VOID
from aepsl_tf.data import encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.progress import progress
from data_prep import inspect, masks, sources
from data_prep.tags import shared


def run(settings, run_dir, workers=0):
    """Writes one split of a devkit or of a folder; see `config.WriteVoc`.

    A split that is written already is compared with its source by the list of its images, the
    class file and the tag file, which are read, and by the pictures, masks or XML files that were
    read then: by names, sizes and times, and by what they hold where these are not the same. No
    picture and no mask is decoded. What is not there any more is not compared: a list that is
    gone, or one of the folders, and then no file below the devkit.

    Raises:
      InputError: missing or unreadable files, unknown tags, masks that are no class-id masks,
        pictures without a tag.
    """
    key, truth_key = f"write_voc/{settings.split}", f"write_voc/{settings.split}/ground_truth"
    done, truth = run_dir.entry(key), run_dir.entry(truth_key)
    before = (truth["facts"] if truth else {}) | (done["facts"] if done else {})
    source = sources.of(settings, None if run_dir.restart else before)
    if not done and run_dir.chief:  # else these may not be needed
        source.refuse_missing()

    def write_images(partial):
        source.refuse_missing()
        logging.info("%s: tags from %s; ground truth: %s", settings.split, source.tags_from,
                     source.truth_in_words())  # fmt: skip
        if before.get("tags_from", source.tags_from) != source.tags_from:
            logging.warning("%s: its tags were from %s", settings.split, before["tags_from"])
        classes, in_masks = source.classes(), []
        if source.tags_from == "masks" or source.has_truth:  # bad masks are refused first
            in_masks = _in_masks(source, classes, workers)
        if source.tags_from == "masks":
            tags = shared([c for c in present if c not in _BINARY] for present in in_masks)
        else:
            tags = source.tags(classes)
            _refuse_binary(source, tags, in_masks)
        ids, tags = _tagged(settings, source, tags, in_masks)
        run_dir.fix_classes(classes, settings.split)
        counts = records.split_counts(len(ids), settings.shards)
        items = functools.partial(_image_items, source, ids, tags, counts)
        make = functools.partial(_image_row, settings.max_pixels)
        facts = functools.partial(
            _image_facts,
            partial,
            counts,
            {"tags_from": source.tags_from, "untagged": settings.untagged},
        )
        records.write_family(partial, "images", counts, items, make, workers, facts=facts)
        told = {"tags_from": source.tags_from, "ground_truth": source.has_truth}
        return told | source.facts()

    def write_ground_truth(partial):
        source.refuse_missing(truth=True)
        family = records.Family(run_dir.family(settings.split, "images"))
        read = masks.Masks.of(source.masks, run_dir.classes(), settings.max_pixels)

        def items(shard):
            for row in family.read(shard):
                yield row["image/id"], source.mask(row["image/id"]), source.picture(row["image/id"])

        make = functools.partial(_mask_row, read)
        records.write_family(
            partial, "ground_truth", family.counts, items, make, workers, staged=True
        )
        return source.facts()

    images = run_dir.family(settings.split, "images")
    facts = run_dir.phase(key, settings, [], images, write_images, reads=source.for_images())
    # Truth that was written for these images is compared, even where its masks are not whole now.
    written = settings.ground_truth != "none" and run_dir.is_current(truth_key)
    if source.has_truth or facts.get("ground_truth") or written:
        run_dir.phase(
            truth_key, settings, [key],
            run_dir.ground_truth(settings.split, "write_voc"), write_ground_truth,
            reads=source.for_ground_truth(),
        )  # fmt: skip
    elif run_dir.chief:
        run_dir.forget(truth_key)  # of images that were redone without it


def check(settings):
    """Refuses what `run` would, as far as it can be told without decoding a picture or a mask.

    Returns:
      (`ClassSet`, ids without a tag); None for the ids where masks tell the tags.
    """
    source = sources.of(settings)
    source.refuse_missing()
    classes = source.classes()
    if source.tags_from == "masks":
        return classes, None
    tags = source.tags(classes)
    kept = _tagged(settings, source, tags, [])
    return classes, [id_ for id_, own in zip(*kept, strict=True) if not own]


def has_truth(settings):
    """Whether the split's ground truth will be written; False where there is no devkit."""
    return sources.of(settings).has_truth


# ----------------------------------------------------------------------------------- masks, tags


_LOOKED_AT = 20  # masks whose palettes are compared with the class colours
_BINARY = (BACKGROUND, VOID)


def _in_masks(source, classes, workers):
    """The sorted class ids that every image's mask holds, 0 and 255 too; every mask is checked."""
    read = masks.Masks.of(source.masks, classes, source.settings.max_pixels)
    items = ((source.mask(id_), source.picture(id_)) for id_ in source.ids)

    def present():
        with progress(len(source.ids), "read masks") as bar:
            for one in runners.ordered_map(functools.partial(_present, read), items, workers):
                yield one
                bar.update()

    found = shared(present())
    masks.warn_of_palette(map(source.mask, source.ids[:_LOOKED_AT]), classes)
    if found and all(present == _BINARY for present in found):
        logging.warning("%s: nothing but 0 and %d in all masks, as in masks of object against the "
                        "rest; %d is void here", source.masks, VOID, VOID)  # fmt: skip
    return found


def _present(read, item):
    return [int(c) for c in np.flatnonzero(np.bincount(read.read(*item).ravel()))]


def _refuse_binary(source, tags, in_masks):
    """Masks of 0 and 255 alone, of images that have tags, are of objects against the rest."""
    for id_, own, present in zip(source.ids, tags, in_masks, strict=False):
        if present == _BINARY and own:
            raise InputError(
                f"{source.mask(id_)}: holds nothing but 0 and {VOID}, and the image has a tag: "
                "probably a mask of object against the rest; 255 is void here, an object's pixels "
                "bear its class id"
            )


def _tagged(settings, source, tags, in_masks):
    """The ids that are written, as --untagged says, and their tags."""
    every = source.ids, tags
    without = [id_ for id_, own in zip(*every, strict=True) if not own]
    if not without:
        return every
    binary = sum(present == _BINARY and not own
                 for own, present in zip(tags, in_masks, strict=False))  # fmt: skip
    told = (f"{settings.split}: {len(without)} of {len(source.ids)} pictures have no tag, the "
            f"first is {without[0]}")  # fmt: skip
    if settings.split == settings.val_split != settings.train_split:
        if source.tags_from != "none":
            logging.info("%s", told)
        return every
    if source.tags_from == "none":
        logging.warning("%s; train with --labels_csv or another --tags_from", told)
        return every
    if settings.untagged == "refuse":
        why = f"; {binary} masks hold nothing but 0 and 255, as masks of object against the " \
              "rest do" if binary else ""  # fmt: skip
        evaluated = "" if settings.split == settings.train_split else \
            f"; or --val_split={settings.split} where nothing learns from them"  # fmt: skip
        raise InputError(
            f"{told}{why}: give them tags, or --untagged=drop, or --untagged=negative where they "
            f"show none of the classes{evaluated}"
        )
    logging.warning("%s (--untagged=%s)", told, settings.untagged)
    if not any(tags):
        raise InputError(f"{settings.split}: no picture has a tag: there is nothing to learn")
    if settings.untagged == "negative":
        return every
    return tuple(list(itertools.compress(one, tags)) for one in every)


# ----------------------------------------------------------------------------------------- rows


def _image_items(source, ids, tags, counts, shard):
    """Yields one item at a time: the paths of a million pictures would fill the memory."""
    first = sum(counts[:shard])
    for i in range(first, first + counts[shard]):
        yield ids[i], source.picture(ids[i]), tags[i]


def _image_row(max_pixels, item):
    id_, path, labels = item
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    picture = encoding.standard_image(data, path, max_pixels)
    return {
        "image/id": id_,
        "image/encoded": picture.encoded,
        "image/converted_from": picture.reason,
        "image/height": picture.height,
        "image/width": picture.width,
        "image/pixel_sum": encoding.pixel_sum(picture.encoded),
        "image/labels": labels,
    }


def _image_facts(partial, counts, facts):
    """`facts` and the mean pixel of the split (§3.1), exact: integer sums over all images."""
    total, pixels = np.zeros(3, np.int64), 0
    for index in range(len(counts)):
        for row in records.read_shard(partial, "images", index, len(counts)):
            total += np.array(row["image/pixel_sum"])
            pixels += row["image/height"] * row["image/width"]
    return facts | {"mean_pixel": [round(float(x), 4) for x in total / pixels]}


def _mask_row(read, item):
    id_, path, picture = item
    return {"image/id": id_, "mask/png": encoding.grey_png(read.read(path, picture))}


def run_and_look(settings, run_dir, workers=0):
    """The command: `run`, and of what it wrote a first look (`inspect`)."""
    before = run_dir.entry(f"write_voc/{settings.split}")
    run(settings, run_dir, workers)
    if not before:
        other = settings.val_split != settings.split
        seen = dataclasses.replace(settings, train_split=settings.split) if other else settings
        inspect.look(seen, run_dir, workers)


if __name__ == "__main__":
    config_flags.run_phase(config.WriteVoc, run_and_look)
