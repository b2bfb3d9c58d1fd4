"""Results in the form that PASCAL VOC's evaluation server takes (VOC 2012 devkit, §5.3)."""

import gzip
import io
import tarfile

import numpy as np
from PIL import Image

from aepsl_tf.classes import VOC, voc_palette
from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from aepsl_tf.files import write_atomic

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
ARCHIVE = "results.tar.gz"
WHERE = (
    "upload it at http://host.robots.ox.ac.uk:8080 as VOC2012, segmentation, comp6: comp5 is for "
    "what was trained on VOC alone, and ImageNet's weights are not"
)


def refuse_unfit(classes, settings, pictures):
    """Refuses what can be no submission, before anything is computed."""
    if classes.names != VOC.names:
        raise InputError(
            f"--voc_submission: VOC's server knows VOC's 20 classes alone; this run has "
            f"{len(classes)}: {', '.join(classes.names)[:100]}"
        )
    if not settings.ids_file:
        raise InputError(
            "--voc_submission needs the list of the test set: "
            "--ids_file=VOC2012/ImageSets/Segmentation/test.txt"
        )
    for picture in pictures:
        if "/" in picture.id:
            raise InputError(
                f"--voc_submission: {picture.id} lies in a sub-folder; VOC's IDs do not"
            )


def mask_png(mask):
    """uint8 `[H, W]` class ids → PNG bytes in VOC's colours, whatever the run's are."""
    return encoding.palette_png(mask, voc_palette())


def pack(output, pictures):
    """Checks the masks in `output`/FOLDER and writes `output`/ARCHIVE, always the same bytes.

    Args:
      output: a folder.
      pictures: the `inputs.Picture`s of the test set.

    Raises:
      InputError: a mask too many, too few, or of another form.
    """
    wanted = {f"{picture.id}.png": picture.file for picture in pictures}
    there = {path.name for path in (output / FOLDER).iterdir()}
    if odd := sorted(there ^ wanted.keys()):
        said = "is not of the list: remove it" if odd[0] in there else "is missing"
        raise InputError(f"{output / FOLDER}: {odd[0]} {said}, or give another --output")
    packed = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, file in sorted(wanted.items()):
            data = (output / FOLDER / name).read_bytes()
            if wrong := _wrong_in(data, file):
                raise InputError(f"{output / FOLDER / name}: {wrong}: predict it again")
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")  # of nobody, from 1970
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    write_atomic(output / ARCHIVE, packed.getvalue())


def _wrong_in(data, file):
    """What is wrong with a mask's PNG, in words, or None."""
    try:
        mask, _ = encoding.picture_in(data)
    except ValueError as error:
        return str(error)
    with Image.open(file) as picture:
        size = picture.size
        if encoding.orientation(picture) >= 5:
            size = size[::-1]
    if mask.size != size:
        return f"{mask.width} × {mask.height} pixels, the picture has {size[0]} × {size[1]}"
    if mask.mode != "P" or mask.getpalette() != voc_palette().ravel().tolist():
        return "not in VOC's colours"
    highest = int(np.asarray(mask).max())
    return f"holds class id {highest}, above {len(VOC)}" if highest > len(VOC) else None
