"""Image tags from a CSV file or from VOC's XML, read as people mean them."""

import csv
import re
import unicodedata
import xml.etree.ElementTree as ElementTree

from aepsl_tf.data.lists import PICTURES
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_text

_LONGEST_FIELD = 100_000


def from_csv(path, ids, classes, lenient=False):
    """Image id → sorted class ids, from columns `image` and `labels` (or `tags`).

    Columns are parted by commas, semicolons or tabs, labels in a cell by `;`, `|`, `,` or lines,
    and where no class name holds a space by spaces. Lines of one image are joined. In any encoding
    of `read_text`.

    Args:
      lenient: an image without a line has no tag.

    Raises:
      InputError: an image without a line, a line of more or fewer columns than the header, an
        unknown tag; with the line's number.
    """
    # Some systems write é as two characters, others as one.
    wanted, found, known = {plain(id_): id_ for id_ in ids}, {}, {}
    for number, image, labels in _rows(path):
        id_ = next((wanted[name] for name in meant(image) if name in wanted), None)
        if id_ is not None:  # what other images' tags are is not this split's matter
            where = f"{path}: line {number}: image {image}"
            own = sorted({*found.get(id_, ()), *ids_of(_split(labels, classes), classes, where)})
            found[id_] = known.setdefault(tuple(own), own)  # few of a million are different
    missing = [id_ for id_ in ids if id_ not in found]
    if missing and not lenient:
        raise InputError(
            f"{path}: expected tags of {len(ids)} images, found {len(ids) - len(missing)}; "
            f"missing: {', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}"
        )
    return {id_: found.get(id_, []) for id_ in ids}


def shared(found):
    """Class ids an image as a list of tuples; of equal ones there is one, as few are different."""
    known = {}
    return [known.setdefault(one, one) for one in map(tuple, found)]


def names_in(path):
    """Every tag of a CSV file by its name, in the order of the alphabet, and every image's line:
    ([name], [image])."""
    names, images = {}, []
    for _, image, labels in _rows(path):
        images.append(image)
        for name in _split(labels, None):
            names.setdefault(_alike(name), name)
    return sorted(names.values(), key=str.casefold), images


def plain(name):
    """An id or a tag in the one of several ways to write é that is compared."""
    return unicodedata.normalize("NFC", name)


def meant(image):
    """The ids that a line's image may be: itself, and without its suffix."""
    name = plain(image)
    stem, dot, suffix = name.rpartition(".")
    return (name, stem) if f"{dot}{suffix.lower()}" in PICTURES else (name,)


def _rows(path):
    """Yields (line number, image, labels)."""
    text = read_text(path)
    first = next((line for line in _lines(text) if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    header, columns = None, None
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if header is None:
                header, columns = cells, _columns(path, cells)
                continue
            while len(cells) > len(header) and not cells[-1]:
                cells.pop()
            if len(cells) != len(header):
                raise InputError(
                    f"{path}: line {rows.line_num} has {len(cells)} columns, the header has "
                    f"{len(header)}: put several labels into one cell (image,cat;dog)"
                )
            image, labels = (cells[i] for i in columns)
            if not image:
                raise InputError(f"{path}: line {rows.line_num} names no image")
            yield rows.line_num, image, labels
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: {error}") from None
    if header is None:
        raise InputError(f"{path} is empty: expected a first line `image,labels`")


def _lines(text):
    """Yields all lines but Excel's `sep=`, which is an empty one; a million at once are large."""
    for number, line in enumerate(re.finditer("^.*$", text, re.MULTILINE)):
        excel = number == 0 and line[0].lower().startswith("sep=")
        yield "\n" if excel else f"{line[0]}\n"


def _columns(path, header):
    names = [name.casefold() for name in header]
    found = [[i for i, name in enumerate(names) if name in wanted] for wanted in
             (("image", "filename", "file"), ("labels", "label", "tags", "tag"))]  # fmt: skip
    if [len(one) for one in found] != [1, 1]:
        raise InputError(
            f"{path}: expected a first line `image,labels` and a line an image; found "
            f"{', '.join(header)[:100]!r}"
        )
    return [one[0] for one in found]


def _split(text, classes):
    """The names in a cell."""
    if classes and find(text, classes):
        return [text]
    if any(separator in text for separator in ";|,\n"):
        return [name.strip() for name in re.split(r"[;|,\n]", text) if name.strip()]
    if classes is None or any(" " in name for name in classes.names):
        return [text] if text else []
    return text.split()


def find(name, classes):
    """The class id that a name means, or None: as it is, else without case where that is one."""
    if name in classes.names:
        return classes.names.index(name) + 1
    wanted = _alike(name)
    alike = [i for i, known in enumerate(classes.names, start=1) if _alike(known) == wanted]
    return alike[0] if len(alike) == 1 else None


def _alike(name):
    return plain(name).casefold().strip()


def ids_of(names, classes, where):
    """Sorted class ids of tag names.

    Raises:
      InputError: a name that is no class's, with `where`.
    """
    found = {name: find(name, classes) for name in names}
    for name, id_ in found.items():
        if id_ is None:
            raise InputError(f"{where}: {classes.unknown(name)}")
    return sorted(set(found.values()))


def from_xml(path, classes):
    """Sorted class ids of the objects in a VOC annotation, in any encoding Python knows.

    Raises:
      InputError: no annotation, a damaged one, or one with entities of its own; in one line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        root = _parsed(data)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        first = str(error).splitlines()[0][:200]
        raise InputError(f"{path}: not readable as XML ({first})") from None
    if root.tag != "annotation":
        raise InputError(f"{path}: expected VOC's <annotation>, found <{str(root.tag)[:50]}>")
    names = [(o.findtext("name") or "").strip() for o in root.iter("object")]
    return ids_of(names, classes, str(path))


def _parsed(data):
    """The root of an XML document. Python decodes it: it knows more encodings than the parser."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    head = data[:200].split(b"?>")[0].decode("latin-1")
    declared = re.search(r"""<\?xml[^>]*encoding\s*=\s*["']([\w.:-]+)["']""", head)
    if declared and declared[1].lower() not in ("utf-8", "utf8"):
        encoding = declared[1]
    text = data.decode(encoding)
    if "<!ENTITY" in text:
        raise ValueError("it defines entities, which annotations have no use for")
    return ElementTree.fromstring(text)
