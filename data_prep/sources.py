"""Where a split's pictures, masks and tags lie: a VOC devkit, or any folder of pictures."""

import bisect
import hashlib
import heapq
import os
import pathlib

from absl import logging

from aepsl_tf import run_dir
from aepsl_tf.classes import VOC, ClassSet
from aepsl_tf.data import lists
from aepsl_tf.data.lists import PICTURES
from aepsl_tf.errors import InputError
from aepsl_tf.files import Content, path_below, refuse_unreadable, walk
from data_prep import tags
from data_prep.masks import labelmap

_MASK_FOLDER = "SegmentationClass"
AUGMENTED = "SegmentationClassAug"  # `download_voc`'s: SBD's masks, and VOC's where there are any


def of(settings, before=None):
    """The `Devkit` or `Folder` that `config.WriteVoc` names."""
    return (Folder if settings.images_dir else Devkit)(settings, before)


def _files_below(folder, suffixes, without=""):
    """Yields (id: path below the folder, without suffix; the suffix) of its files.

    Args:
      folder: a path; where there is none, there are no files.
      suffixes: of the files that count, in lower case.
      without: a folder below that is another's, as `os.path.realpath` has it. A run's is left out
        as well.
    """

    def enter(path):
        is_others = without and os.path.realpath(path) == without
        return not is_others and not run_dir.is_run(path)

    for below, names in walk(folder, enter, refuse_unreadable):
        prefix = os.path.relpath(below, folder).replace(os.sep, "/") + "/"
        names.sort()
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in suffixes and not name.startswith("."):
                yield (prefix + stem).removeprefix("./"), suffix


class _Files:
    """The files of a split's images below a folder; its length is how many images have one.

    Args:
      ids: of the images, sorted.
      folder, suffixes, without: as `_files_below` takes them.
    """

    def __init__(self, ids, folder, suffixes, without=""):
        self.folder = pathlib.Path(folder)
        # A million ids are there once, the caller's own; a byte says how each one's suffix is
        # written, 0 that there is no file.
        self._ids, self._found = ids, bytearray(len(ids))
        self._written = ["", *suffixes]
        self._others = {}  # second files of one id
        for id_, suffix in _files_below(folder, suffixes, without):
            place = self._place(id_)
            if place is None:
                continue
            if self._found[place]:
                self._others[id_] = suffix
                continue
            if suffix not in self._written:  # .JPG
                self._written.append(suffix)
            self._found[place] = self._written.index(suffix)

    def _place(self, id_):
        place = bisect.bisect_left(self._ids, id_)
        return place if self._ids[place : place + 1] == [id_] else None

    def __len__(self):
        return len(self._ids) - self._found.count(0)

    def __contains__(self, id_):
        return self._found[self._place(id_)] > 0

    def path(self, id_):
        return path_below(self.folder, self._name(self._place(id_)))

    def _name(self, place):
        """A file below the folder, by its likeliest name where it is not there any more."""
        return self._ids[place] + self._written[self._found[place] or 1]

    def names(self):
        """Yields all names below the folder in the order of the names."""
        waiting = []  # `a.jpg` comes after `a.b.jpg`
        for place, id_ in enumerate(self._ids):
            while waiting and waiting[0] < id_:  # so it comes before all that are to follow
                yield heapq.heappop(waiting)
            heapq.heappush(waiting, self._name(place))
        yield from sorted(waiting)

    def refuse_two(self, ids):
        """Raises InputError where two files have one of these ids."""
        for id_ in ids if self._others else ():
            if id_ in self._others:
                one = self._name(self._place(id_))
                raise InputError(
                    f"{self.folder}: {one} and {id_}{self._others[id_]} are one image's by their "
                    "names: remove or rename one"
                )


class _Names:
    """The names of several `_Files` below their common root, in their order, made anew at every
    pass: they are longer than all else that is kept of an image.

    Args:
      parts: {what stands before the names: files}.
      others: names that come after these.
    """

    def __init__(self, parts, others=()):
        self._parts, self._others = sorted(parts.items()), others

    def __iter__(self):
        for prefix, files in self._parts:
            for name in files.names():
                yield prefix + name
        yield from self._others


def _masks_of(ids, folders):
    """(folder, `_Files` of masks): the first folder with all images' masks, else with the most."""
    best = None, _Files(ids, "", ())
    for folder in folders:
        files = _Files(ids, folder, (".png",))
        if best[0] is None or len(files) > len(best[1]):
            best = folder, files
        if len(files) == len(ids):
            break
    return best


class _Source:
    """What both have in common.

    Attributes:
      ids: of the split's images; none where there is no list, or nothing any more.
      tags_from: masks, xml, csv, folders or none.
      has_truth: whether the split has ground truth: a mask for every image, and it is wanted.
      with_mask: how many images have a mask.
      masks: where masks lie.
    """

    def __init__(self, settings, before, in_order):
        self.settings, self._before = settings, before or {}
        self.masks, self._mask_files = _masks_of(in_order, self._mask_folders())
        self.with_mask = len(self._mask_files)
        all_masks = bool(self.ids) and self.with_mask == len(self.ids)
        self.has_truth = settings.ground_truth == "auto" and all_masks
        self.tags_from = settings.tags_from
        if self.tags_from == "auto":
            self.tags_from = self._tags_from(all_masks)

    def picture(self, id_):
        return self._pictures.path(id_)

    def mask(self, id_):
        return self._mask_files.path(id_)

    def truth_in_words(self):
        if self.has_truth:
            where = f" in {AUGMENTED}" if self._is_augmented() else ""
            return f"{len(self.ids)} masks{where}"
        if self.settings.ground_truth == "none":
            return "none (--ground_truth=none)"
        return f"none, {self.with_mask} of {len(self.ids)} masks are there"

    def facts(self):
        """What a later look must know: {"masks": the folder} where that is not the usual one."""
        read = self.tags_from == "masks" or self.has_truth
        return {"masks": AUGMENTED} if read and self._is_augmented() else {}

    def _is_augmented(self):
        return self.masks is not None and self.masks.name == AUGMENTED

    def _needed(self, files, folder, hint=""):
        if len(files) < len(self.ids):
            missing = [id_ for id_ in self.ids if id_ not in files]
            some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
            raise InputError(
                f"{folder}: expected {len(self.ids)} files, found {len(files)}; missing: {some}. "
                f"Add them or take their ids out of the split{hint}"
            )
        files.refuse_two(self.ids)

    def refuse_missing(self, truth=False):
        """Refuses a split, or its ground truth, that cannot be written for want of files."""
        given = self.settings
        if given.images_dir and given.voc_root:
            raise InputError("--images_dir and --voc_root are two sources of pictures: give one")
        if given.masks_dir and not self.masks.is_dir():
            raise InputError(f"--masks_dir={given.masks_dir}: no such folder")
        if self.tags_from == "csv" and not given.labels_csv:
            raise InputError("--tags_from=csv needs --labels_csv=FILE with columns image,labels")
        self._refuse_missing()
        if not self.ids:
            raise InputError(f"{given.split}: no picture is in this split")
        self._needed(self._pictures, self._pictures.folder)
        if self.tags_from == "masks" or self.has_truth or truth:
            hint = ", or give another --tags_from" if self.tags_from == "masks" else ""
            self._needed(self._mask_files, self.masks, hint)

    def tags(self, classes):
        """The sorted class ids of every image, in the order of `ids`, from any source but masks."""
        return tags.shared(self._tags(classes))

    def _tags(self, classes):
        if self.tags_from == "csv":
            lenient = self.settings.untagged != "refuse"
            found = tags.from_csv(self.settings.labels_csv, self.ids, classes, lenient)
            return map(found.__getitem__, self.ids)
        if self.tags_from == "none":
            return ([] for _ in self.ids)
        return self._own_tags(classes)

    def _content(self, named):
        """What is read: {field: `Content`}, with files below their folders.

        Args:
          named: (field, folder, {what stands before the names: `_Files`}).

        Raises:
          InputError: two files have one id.
        """
        own = {
            "ids_file": None if self._list is None else Content(self.settings.ids_file, self._list)
        }
        for field, folder, parts in named:
            for files in parts.values():
                files.refuse_two(self.ids)
            # What the colours of masks mean is read with them.
            colors = labelmap(self.masks) if self._mask_files in parts.values() else None
            given, names, older = getattr(self.settings, field), _Names(parts), None
            if colors:
                older = Content(given, folder, names)
                names = _Names(parts, [os.path.relpath(colors, folder)])
            own[field] = Content(given, folder, names, older)
        return own


class Devkit(_Source):
    """One split of a VOC devkit, by names: of all its files only the list of images is read.

    Args:
      settings: `config.WriteVoc`.
      before: facts of the split as it was written, or None: "tags_from", and "masks" as `facts`
        says. With --tags_from=auto tags still come from there: masks that were added since give it
        ground truth, not other tags.
    """

    def __init__(self, settings, before=None):
        self.root = pathlib.Path(settings.voc_root)
        self._list = _list_of(settings, self.root)
        self._classes = pathlib.Path(settings.classes_file or self.root / "classes.json")
        self.ids = _names(lists.read(self._list), self.root) if self._list.is_file() else []
        in_order = sorted(self.ids)
        self._pictures = _Files(in_order, self.root / "JPEGImages", PICTURES)
        self._xml = _Files(in_order, self.root / "Annotations", (".xml",))
        super().__init__(settings, before, in_order)

    def _mask_folders(self):
        given = self.settings.masks_dir
        if not given:
            known = self._before.get("masks")
            return [self.root / name for name in ([known] if known else (_MASK_FOLDER, AUGMENTED))]
        here, below = pathlib.Path(given), self.root / given
        return [below if not here.exists() and below.exists() else here]

    def _tags_from(self, all_masks):
        if self.settings.labels_csv:
            return "csv"
        if self._before.get("tags_from") in ("masks", "xml", "none"):
            return self._before["tags_from"]
        if all_masks:
            return "masks"
        return "xml" if len(self._xml) else "none"

    def _is_there(self):
        return bool(self.settings.voc_root) and self._pictures.folder.is_dir()

    def _refuse_missing(self):
        if not self._is_there():
            raise InputError(
                f"--voc_root={self.settings.voc_root}: expected a folder that holds JPEGImages"
            )
        if not self._list.is_file():
            lists_ = _lists(self.settings, self.root)
            raise InputError(
                f"--ids_file={self.settings.ids_file}: not there, nor in {lists_}"
                if self.settings.ids_file
                else f"{self._list} is not there: give --split one of the lists in {lists_}, or "
                "--ids_file"
            )
        if self.tags_from == "folders":
            raise InputError("--tags_from=folders is of --images_dir; a devkit has none")
        if self.tags_from == "xml":
            self._needed(self._xml, self._xml.folder, ", or give another --tags_from")

    def _own_tags(self, classes):
        return (tags.from_xml(pathlib.Path(self._xml.path(id_)), classes) for id_ in self.ids)

    def classes(self):
        return ClassSet.load(self._classes) if self._own_classes() else VOC

    def _own_classes(self):
        """Whether there is a class file: one that is missing, but was asked for, is one too."""
        return bool(self.settings.classes_file) or self._classes.exists()

    def _named(self, masks, xml):
        parts = {"JPEGImages/": self._pictures}
        if xml:
            parts["Annotations/"] = self._xml
        named = [("voc_root", self.root, parts)]
        if masks and (not self.settings.masks_dir or self.masks == self.root / _MASK_FOLDER):
            parts[f"{self.masks.name}/"] = self._mask_files
        elif masks:
            named.append(("masks_dir", self.masks, {"": self._mask_files}))
        content = self._content(named)
        # Where the devkit is gone its class file is, and not none.
        has_classes = self._own_classes() or not self._is_there()
        content["classes_file"] = (
            Content(self.settings.classes_file, self._classes) if has_classes else None
        )
        return content

    def for_images(self):
        """What the images and their tags are read from, as `RunDir.phase` takes it."""
        named = self._named(self.tags_from == "masks", self.tags_from == "xml")
        csv_file = self.settings.labels_csv if self.tags_from == "csv" else None
        return named | {"labels_csv": csv_file}

    def for_ground_truth(self):
        """What the ground truth is read from."""
        return self._named(True, False)


def _lists(settings, root):
    return pathlib.Path(settings.lists_dir or root / "ImageSets" / "Segmentation")


def _list_of(settings, root):
    """The list of the split's images: --ids_file, here or among the lists, or one of these."""
    own = _lists(settings, root)
    if not settings.ids_file:
        return own / f"{settings.split}.txt"
    here = pathlib.Path(settings.ids_file)
    return own / here if not here.exists() and (own / here).exists() else here


def _names(ids, root):
    """Ids of a list of paths to folders that a devkit has not below JPEGImages: the names alone."""
    if any("/" not in id_ or (root / "JPEGImages" / id_).parent.is_dir() for id_ in ids[:100]):
        return ids
    names = [id_.rpartition("/")[2] for id_ in ids]
    return ids if lists.twice(names) else names


class Folder(_Source):
    """One split of a folder of pictures; ids are their paths below it, without suffix.

    Tags are those of --labels_csv or, where there is none, the name of the sub-folder that holds a
    picture. The classes are --classes_file's or, where there is none, the tags there are.
    """

    def __init__(self, settings, before=None):
        self.root = pathlib.Path(settings.images_dir)
        masks = os.path.realpath(settings.masks_dir) if settings.masks_dir else ""
        self._every = [id_ for id_, _ in _files_below(self.root, PICTURES, masks)]
        if lists.twice(self._every):  # a.jpg beside a.png
            self._every = list(dict.fromkeys(self._every))
        self._list = pathlib.Path(settings.ids_file) if settings.ids_file else None
        if self._list is not None:
            self.ids = lists.read(self._list)
        else:
            self.ids = [
                id_ for id_ in self._every if self._split_of(id_, settings) == settings.split
            ]
        self._by_folder = bool(self._every) and all("/" in id_ for id_ in self._every)
        in_order = sorted(self.ids)
        self._pictures = _Files(in_order, self.root, PICTURES, masks)
        super().__init__(settings, before, in_order)

    @staticmethod
    def _split_of(id_, settings):
        """By a digest of the name, so that pictures which are added move none."""
        number = int.from_bytes(hashlib.sha256(os.fsencode(id_)).digest()[:4], "big") / 2**32
        return settings.val_split if number < settings.val_share else settings.train_split

    def _mask_folders(self):
        return [pathlib.Path(self.settings.masks_dir)] if self.settings.masks_dir else []

    def _tags_from(self, all_masks):
        if self.settings.labels_csv:
            return "csv"
        if self._before.get("tags_from") in ("folders", "masks", "none"):
            return self._before["tags_from"]
        if self._by_folder:
            return "folders"
        return "masks" if all_masks and self.settings.classes_file else "none"

    def _refuse_missing(self):
        if not self.root.is_dir():
            raise InputError(f"--images_dir={self.settings.images_dir}: no such folder")
        if not self._every:
            raise InputError(
                f"--images_dir={self.root}: holds no picture ({', '.join(PICTURES)}), in no "
                "sub-folder either"
            )
        if self._list is not None and self.settings.val_share:
            raise InputError(
                "--ids_file and --val_share both say which pictures are trained on: give one"
            )
        for id_ in self.ids:
            if wrong := lists.wrong_in(id_):
                raise InputError(f"{self.root}: {id_!r} can be no image's name: {wrong}")
        if self.tags_from == "xml":
            raise InputError("--tags_from=xml is of a devkit; a folder's tags come from a CSV file")
        self.classes()

    def tags(self, classes):
        if self.tags_from == "csv":
            _, listed = tags.names_in(self.settings.labels_csv)
            known = {tags.plain(id_) for id_ in self._every}
            if lost := [image for image in listed if known.isdisjoint(tags.meant(image))]:
                logging.warning(
                    "%s: %d lines name no picture of %s, the first is %s",
                    self.settings.labels_csv, len(lost), self.root, lost[0],
                )  # fmt: skip
        return super().tags(classes)

    def _own_tags(self, classes):
        return (
            tags.ids_of([id_.split("/")[0]], classes, f"{self.root}: {id_}") for id_ in self.ids
        )

    def classes(self):
        if self.settings.classes_file:
            return ClassSet.load(self.settings.classes_file)
        if self.tags_from == "csv":
            names, _ = tags.names_in(self.settings.labels_csv)
        elif self.tags_from == "folders":
            names = list({id_.split("/")[0].casefold(): id_.split("/")[0]
                          for id_ in sorted(self._every, reverse=True)}.values())[::-1]  # fmt: skip
        else:
            names = []
        if not names:
            raise InputError(
                f"{self.root}: no tag says what the classes are: give --labels_csv, a sub-folder "
                "a class, or --classes_file"
            )
        return ClassSet.of_names(names)

    def _named(self, masks):
        named = [("images_dir", self.root, {"": self._pictures})]
        if masks and self.masks:
            named.append(("masks_dir", self.masks, {"": self._mask_files}))
        given = self.settings.classes_file
        return self._content(named) | {"classes_file": Content(given, given) if given else None}

    def for_images(self):
        """What the images and their tags are read from, as `RunDir.phase` takes it."""
        csv_file = self.settings.labels_csv if self.tags_from == "csv" else None
        return self._named(self.tags_from == "masks") | {"labels_csv": csv_file}

    def for_ground_truth(self):
        """What the ground truth is read from."""
        return self._named(True)
