"""Pictures as files: what may stay as it is, what is converted once, and palette masks.

Without TensorFlow, so that prediction, data preparation and worker processes can share it.
"""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from aepsl_tf.errors import InputError

_EXIF_ORIENTATION = 0x0112
_PNG_BIT_DEPTH = 24  # where it stands: the header comes first in every PNG
Image.MAX_IMAGE_PIXELS = None  # large pictures are allowed; --pixel_limit bounds the work on them


def standard_image(data, where):
    """An upright RGB JPEG or PNG, untouched where it already is one.

    Anything else (EXIF rotation, CMYK, grey, palette, alpha, 16 bit, WebP, …) becomes a PNG of
    its RGB pixels; alpha is laid over white.

    Args:
      data: the file's bytes.
      where: its name, for errors.

    Returns:
      (bytes, reason, height, width): reason is "" when the bytes are `data` itself.

    Raises:
      InputError: not a picture, or a truncated one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF that we do not read
            picture = Image.open(io.BytesIO(data))
            picture.load()
            upright = picture.getexif().get(_EXIF_ORIENTATION, 1) in (0, 1)
    except Exception as error:  # Pillow raises a dozen kinds, all mean the same to the user
        raise InputError(
            f"{where}: not a readable picture ({error}); replace or leave out"
        ) from None
    reasons = []
    if picture.format not in ("JPEG", "PNG"):
        reasons.append(f"format {picture.format}")
    if not upright:
        reasons.append("EXIF rotation")
    if picture.mode != "RGB" or "transparency" in picture.info:
        reasons.append(f"mode {picture.mode}")
    elif picture.format == "PNG" and data[_PNG_BIT_DEPTH] == 16:  # Pillow's mode does not tell
        reasons.append("16 bit")
    if not reasons:
        return data, "", picture.height, picture.width
    rgb = to_rgb(ImageOps.exif_transpose(picture))
    encoded = io.BytesIO()
    rgb.save(encoded, "PNG", compress_level=6)
    return encoded.getvalue(), ", ".join(reasons), rgb.height, rgb.width


def rgb_pixels(encoded):
    """A standard picture's bytes → uint8 RGB `[H, W, 3]`, the pixels of `transforms.decode_image`
    (tested), for workers, which do without TensorFlow.
    """
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def pixel_sum(encoded):
    """R, G and B summed over a picture's pixels: three ints."""
    return [int(x) for x in rgb_pixels(encoded).sum(axis=(0, 1), dtype=np.int64)]


def to_rgb(picture):
    """Any Pillow picture → mode RGB; 16 bits are scaled down, alpha is laid over white.

    Grey is rounded; of 16-bit colour Pillow itself keeps the high byte.
    """
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip it
        values = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def grey_png(values):
    """uint8 or bool `[H, W]` → greyscale PNG bytes (bool as one bit a pixel, 255 when read)."""
    encoded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(encoded, "PNG", compress_level=6)
    return encoded.getvalue()


def read_grey_png(png):
    """The inverse of `grey_png`: uint8 `[H, W]`; one-bit pictures give 0 and 255."""
    picture = Image.open(io.BytesIO(png))
    return np.asarray(picture.convert("L") if picture.mode == "1" else picture)


def resize_mask(mask, height, width):
    """A mask `[h, w]` at another size, nearest neighbour; the same array where sizes agree."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def rgb_png(picture):
    """uint8 `[H, W, 3]` → PNG bytes."""
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG", compress_level=6)
    return encoded.getvalue()


def palette_png(mask, palette):
    """A mask as a palette PNG; the same mask always gives the same bytes.

    Args:
      mask: uint8 `[H, W]` class ids.
      palette: uint8 `[256, 3]` RGB.
    """
    picture = Image.fromarray(mask)
    picture.putpalette(palette.tobytes())  # turns greyscale into palette mode, ids unchanged
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def read_mask_png(data, where):
    """Class ids, uint8 `[H, W]`, of a palette or 8-bit greyscale PNG.

    Args:
      data: the file's bytes.
      where: names the file in errors.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=["PNG"])
        picture.load()
    except Exception as error:  # Pillow raises six kinds on broken files, not all its own
        raise InputError(
            f"{where}: cannot be read as a PNG ({error}); save the mask again as a palette PNG"
        ) from error
    # Pillow stretches greyscale of 1, 2 and 4 bits to 0..255, which would change the ids.
    bits = data[24]  # the header's bit depth
    if picture.mode != "P" and (picture.mode, bits) != ("L", 8):
        raise InputError(
            f"{where}: expected a palette or greyscale PNG of class ids, got mode {picture.mode} "
            f"with {bits} bits a channel; save the ids themselves, not their colours"
        )
    return np.array(picture, dtype=np.uint8)
