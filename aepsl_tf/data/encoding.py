"""Pictures as files: what may stay as it is, what is converted once, and palette masks.

Without TensorFlow, so that prediction, data preparation and worker processes can share it.
"""

import contextlib
import io
import re
import typing
import warnings
import zlib

import numpy as np
from PIL import Image

from aepsl_tf.errors import InputError

_EXIF_ORIENTATION = 0x0112
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's colour types
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Chunks, and their sizes where they have one, that every decoder knows.
_PLAIN_CHUNKS = {b"IHDR": 13, b"IDAT": None, b"IEND": 0, b"pHYs": 9, b"gAMA": 4, b"sRGB": 1,
                 b"tEXt": None, b"tIME": 7}  # fmt: skip
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2))  # fmt: skip
"""Adam7: first column and row, steps of columns and rows."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF")
"""What pictures are read. Others that Pillow knows run programs, or are no photographs."""
MAX_PIXELS = 150_000_000
"""The default of --max_pixels. TensorFlow decodes no picture of 179 million pixels or more."""
Image.MAX_IMAGE_PIXELS = None  # `picture_in` bounds them, and --pixel_limit the work on them


class Png:
    """A PNG's structure, checked as no decoder in use does it: checksums, order, all its pixels.

    Attributes:
      width, height, depth (bits a channel), color (type).
      plain: whether it holds only chunks that every decoder knows.

    Raises:
      ValueError: it is damaged; in words.
    """

    def __init__(self, data, max_pixels):
        chunks, self.plain, pixels = [], True, zlib.decompressobj()
        counted, place, ended = 0, len(_SIGNATURE), False
        if not data.startswith(_SIGNATURE):
            raise ValueError("no PNG")
        while not ended:
            length, kind = _head(data, place)
            end = place + 8 + length
            if end + 4 > len(data):
                raise ValueError(f"cut off within its chunk {_named(kind)}")
            if zlib.crc32(data[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                raise ValueError(f"the checksum of its chunk {_named(kind)} is wrong")
            body, place = data[place + 8 : end], end + 4
            self.plain &= kind in _PLAIN_CHUNKS and _PLAIN_CHUNKS[kind] in (None, length)
            if not chunks:
                self._read_header(kind, body, max_pixels)
            elif kind == b"IHDR":
                raise ValueError("it has two headers")
            if kind == b"IDAT":
                if b"IDAT" in chunks and chunks[-1] != b"IDAT":
                    raise ValueError("its pixels are not in one piece")
                if self.color == 3 and b"PLTE" not in chunks:
                    raise ValueError("its palette is missing")
                counted += self._count(pixels, body)
            if kind == b"PLTE" and (length % 3 or not 3 <= length <= 768 or kind in chunks):
                raise ValueError("its palette is wrong")
            chunks.append(kind)
            ended = kind == b"IEND"
        if counted != self._bytes() or not pixels.eof:
            raise ValueError(f"it holds {counted} of {self._bytes()} bytes of pixels")

    def _read_header(self, kind, body, max_pixels):
        if kind != b"IHDR" or len(body) != 13:
            raise ValueError("it has no header")
        self.width, self.height = (int.from_bytes(body[i : i + 4], "big") for i in (0, 4))
        self.depth, self.color, compression, filters, self.interlaced = body[8:]
        if (
            not 0 < self.width < 2**31 or not 0 < self.height < 2**31
            or self.depth not in _DEPTHS.get(self.color, ())
            or compression or filters or self.interlaced > 1
        ):  # fmt: skip
            raise ValueError("its header is wrong")
        check_pixels(self.width, self.height, max_pixels)

    def _bytes(self):
        bits = self.depth * _CHANNELS[self.color]
        size = [(self.width, self.height)]
        if self.interlaced:
            size = [(-(-(self.width - x) // dx), -(-(self.height - y) // dy))
                    for x, y, dx, dy in _PASSES]  # fmt: skip
        return sum(h * (1 + -(-w * bits // 8)) for w, h in size if w > 0 and h > 0)

    def _count(self, pixels, body):
        """Decompresses, in pieces that a bomb cannot make large, and counts."""
        counted, most = 0, self._bytes()
        while body and not pixels.eof:
            try:
                counted += len(pixels.decompress(body, 1 << 20))
            except zlib.error as error:
                raise ValueError(f"its pixels are damaged ({error})") from None
            if counted > most:
                raise ValueError("it holds more pixels than its header says")
            body = pixels.unconsumed_tail
        return counted


def _head(data, place):
    if place + 12 > len(data):
        raise ValueError("cut off: its end is missing")
    return int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]


def _named(kind):
    return repr(kind.decode("latin-1"))


def check_pixels(width, height, max_pixels):
    """Refuses what is larger than --max_pixels, by its header, with a ValueError."""
    if width * height > max_pixels:
        raise ValueError(
            f"{width} × {height} pixels are more than --max_pixels={max_pixels}; make it smaller"
        )


def picture_in(data, max_pixels=MAX_PIXELS):
    """A picture file's bytes → (loaded Pillow picture, its `Png` where it is one).

    Raises:
      ValueError: no picture, a damaged one or one too large; in words.
    """
    png = Png(data, max_pixels) if data.startswith(_SIGNATURE) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF that we do not read
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
            check_pixels(*picture.size, max_pixels)
            picture.load()
        if picture.mode in ("F", "I") and png is None:
            raise ValueError(f"its {picture.mode} pixels of 32 bits have no known range")
    except Image.UnidentifiedImageError:
        raise ValueError(f"none of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow raises a dozen kinds, all mean the same to the user
        text = str(error).strip().splitlines()
        raise ValueError(text[0] if text else type(error).__name__) from None
    return picture, png


_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _is_whole_jpeg(data):
    """Whether a JPEG's segments lead to its end marker: Pillow can do without, TensorFlow not."""
    place = 2
    while data[place : place + 1] == b"\xff":
        kind = data[place + 1 : place + 2]
        if kind == b"\xff":  # fill
            place += 1
        elif kind == b"\xd9":
            return True
        elif kind in (b"\x01", *(bytes([m]) for m in range(0xD0, 0xD9))):
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if kind == b"\xda":
            found = _AFTER_SCAN.search(data, place)
            place = found.start() if found else len(data)
    return False


def orientation(picture):
    """How EXIF says a picture is turned: 1 is upright."""
    # Damaged EXIF says nothing, and what Pillow warns of on the way is no error to anybody.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = picture.getexif().get(_EXIF_ORIENTATION, 1)
        return found if found in range(2, 9) else 1
    return 1


class Standard(typing.NamedTuple):
    """A picture as records hold it.

    Attributes:
      encoded: an upright RGB JPEG or PNG.
      reason: why these are not the source's own bytes; "" where they are.
      height, width: of the upright picture.
      turned: EXIF orientation of the source, 1 for upright.
    """

    encoded: bytes
    reason: str
    height: int
    width: int
    turned: int


def standard_image(data, where, max_pixels=MAX_PIXELS):
    """An upright RGB JPEG or PNG, untouched where it already is one, as a `Standard`.

    Anything else (EXIF rotation, CMYK, grey, palette, alpha, 16 bit, WebP, …) becomes a PNG of
    its RGB pixels; alpha is laid over white.

    Args:
      data: the file's bytes.
      where: its name, for errors.
      max_pixels: --max_pixels.

    Raises:
      InputError: not a picture, a damaged or too large one.
    """
    try:
        picture, png = picture_in(data, max_pixels)
    except ValueError as error:
        raise InputError(
            f"{where}: not a readable picture ({error}); replace or leave out"
        ) from None
    reasons, turned = [], orientation(picture)
    if picture.format not in ("JPEG", "PNG"):
        reasons.append(f"format {picture.format}")
    if turned != 1:
        reasons.append("EXIF rotation")
    if picture.mode != "RGB" or "transparency" in picture.info:
        reasons.append(f"mode {picture.mode}")
    elif png and png.depth == 16:  # Pillow's mode does not tell
        reasons.append("16 bit")
    elif png and not png.plain:
        reasons.append("unusual chunks")
    elif picture.format == "JPEG" and not _is_whole_jpeg(data):
        reasons.append("no end")
    if not reasons:
        return Standard(data, "", picture.height, picture.width, turned)
    try:
        rgb = to_rgb(upright(picture, turned))
    except Exception as error:  # as `picture_in`'s: a palette that lacks colours, say
        raise InputError(
            f"{where}: not a readable picture ({error}); replace or leave out"
        ) from None
    encoded = io.BytesIO()
    rgb.save(encoded, "PNG", compress_level=6)
    return Standard(encoded.getvalue(), ", ".join(reasons), rgb.height, rgb.width, turned)


_TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
          4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
          6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
          8: Image.Transpose.ROTATE_90}  # fmt: skip


def upright(picture, turned):
    """A Pillow picture turned as EXIF orientation `turned` says."""
    return picture.transpose(_TURNS[turned]) if turned in _TURNS else picture


def rgb_pixels(encoded):
    """A standard picture's bytes → uint8 RGB `[H, W, 3]`, the pixels of `transforms.decode_image`
    (tested), for workers, which do without TensorFlow.
    """
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def pixel_sum(encoded):
    """R, G and B summed over a picture's pixels: three ints."""
    columns = rgb_pixels(encoded).sum(axis=0, dtype=np.int64)  # both axes at once is slow
    return [int(x) for x in columns.sum(axis=0)]


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
    import cv2  # half of Pillow's time at its fastest, a sixth of that at level 6; 3% more bytes

    ways = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FILTERED]
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), ways)[1].tobytes()


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
