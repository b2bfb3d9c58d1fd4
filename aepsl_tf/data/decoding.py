"""Picture files of any kind in a TensorFlow graph: what `encoding.standard_image` makes of them.

A served model has no Pillow. What TensorFlow's own operations give with the same pixels, bit for
bit, is decoded here; all else is refused by name. Checksums of PNGs are not looked at.
"""

import functools
import typing

import numpy as np
import tensorflow as tf

from aepsl_tf.data import transforms

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM")
_REFUSED = {b"GIF8": "a GIF", b"II*\0": "a TIFF", b"MM\0*": "a TIFF"}
_CONVERT = "convert it to a JPEG or PNG of upright RGB pixels"


class _Look(typing.NamedTuple):
    """What a file says of itself, before a pixel is decoded.

    Attributes:
      reason: why it is refused, or "".
      area: int32 `[2]`, height and width as they are stored.
      exif, xmp: int32 `[2]`, place and length; of length 0 where there is none.
    """

    reason: tf.Tensor
    area: tf.Tensor
    exif: tf.Tensor
    xmp: tf.Tensor


def decode_file(encoded, name, max_pixels):
    """A picture file → uint8 RGB `[H, W, 3]`, upright, alpha laid over white.

    The pixels are those that `predict` sees.

    Args:
      encoded: the file's bytes, a scalar string.
      name: what errors call the picture, a scalar string.
      max_pixels: a larger picture is refused, by its header.

    Raises:
      tf.errors.InvalidArgumentError: the picture is refused, with its name and the reason; or one
        of TensorFlow's decoders finds it damaged.
    """
    # So that what lies behind the end reads as zeros, however wrong a length is.
    data = tf.concat([tf.io.decode_raw(encoded, tf.uint8), tf.zeros([64], tf.uint8)], 0)
    kind, reason = _kind(encoded)
    nothing = tf.zeros([2], tf.int32)
    look = tf.switch_case(1 + kind, [  # the first where it is none of _SIGNATURES
        lambda: _Look(reason, tf.ones_like(nothing), nothing, nothing),
        *(functools.partial(of_kind, data) for of_kind in _LOOKS),
    ])  # fmt: skip
    wrong, turned = _orientation(encoded, data, look)
    pixels = tf.reduce_prod(tf.cast(look.area, tf.int64))
    reason = _first(
        look.reason,
        _if(tf.reduce_any(look.area < 1), "its header is damaged"),
        _if(pixels > max_pixels, f"it has more than {max_pixels} pixels; make it smaller"),
        wrong,
    )
    refusal = tf.strings.join([name, ": ", reason])
    # Else a decoder's own complaint, which names nothing, could come first.
    with tf.control_dependencies([tf.debugging.Assert(reason == "", [refusal])]):
        encoded = tf.identity(encoded)
    return _turned(_decoded(encoded, data, kind), turned)


def _kind(encoded):
    """(the index of its signature or -1, why it is none of them)."""
    kind = tf.constant(-1)
    for index, signature in enumerate(_SIGNATURES):
        kind = tf.where(_begins(encoded, signature), index, kind)
    what = tf.constant("no JPEG, PNG, WebP or BMP")
    for signature, named in _REFUSED.items():
        what = tf.where(_begins(encoded, signature), f"{named}, which is not served", what)
    return kind, what + f"; {_CONVERT}"


def _decoded(encoded, data, kind):
    """uint8 `[H, W, 3]` of one of `_SIGNATURES`."""

    def webp():
        pixels = tf.io.decode_webp(encoded, channels=0)[0]
        return tf.cond(tf.shape(pixels)[-1] == 4, lambda: _over_white(pixels), lambda: pixels)

    pixels = tf.switch_case(kind, [  # in the order of _SIGNATURES
        lambda: transforms.decode_image(encoded),
        lambda: _decoded_png(encoded, data),
        webp,
        lambda: tf.io.decode_bmp(encoded, channels=3),
    ])  # fmt: skip
    return tf.ensure_shape(pixels, [None, None, 3])


def _decoded_png(encoded, data):
    depth, color = _number(data, 24, 1), _number(data, 25, 1)
    chunks, _ = _segments(_png_chunk, data, 8, b"IEND")

    def fine_grey():  # rounded, as `encoding.to_rgb` does it
        grey = tf.cast(tf.io.decode_png(encoded, channels=1, dtype=tf.uint16), tf.int32)
        return tf.repeat(tf.cast((grey + 128) // 257, tf.uint8), 3, axis=-1)

    transparent = (color >= 4) | _has(chunks, b"tRNS")
    return tf.case(
        [((color == 0) & (depth == 16), fine_grey),
         (transparent, lambda: _over_white(tf.io.decode_png(encoded, channels=4)))],
        default=lambda: tf.io.decode_png(encoded, channels=3),
    )  # fmt: skip


def _over_white(pixels):
    """uint8 `[H, W, 4]` laid over white: the whole numbers of Pillow's `alpha_composite`."""
    color, alpha = tf.cast(pixels[..., :3], tf.int32), tf.cast(pixels[..., 3:], tf.int32)
    total = 128 * (color * alpha + 255 * (255 - alpha) + 128)
    return tf.cast((total // 256 + total) // 256 // 128, tf.uint8)


def _turned(pixels, turned):
    """Upright, as `encoding.upright` does it: EXIF orientation 1..8."""

    def if_any(orientations, turn, pixels):
        return tf.cond(_is_any(turned, orientations), lambda: turn(pixels), lambda: pixels)

    pixels = if_any((5, 6, 7, 8), lambda shown: tf.transpose(shown, [1, 0, 2]), pixels)
    pixels = if_any((2, 3, 6, 7), lambda shown: shown[:, ::-1], pixels)
    return if_any((3, 4, 7, 8), lambda shown: shown[::-1], pixels)


# ------------------------------------------------------------------------- what a file says

_FRAMES = (0xFFC0, 0xFFC1, 0xFFC2, 0xFFC3, 0xFFC5, 0xFFC6, 0xFFC7,
           0xFFC9, 0xFFCA, 0xFFCB, 0xFFCD, 0xFFCE, 0xFFCF)  # fmt: skip
_SCAN, _END, _APP1 = b"\xff\xda", b"\xff\xd9", b"\xff\xe1"


def _look_at_jpeg(data):
    pairs = tf.cast(data[:-1], tf.int32) * 256 + tf.cast(data[1:], tf.int32)
    in_scan = (pairs <= 0xFF00) | (pairs == 0xFFFF) | ((pairs >= 0xFFD0) & (pairs <= 0xFFD7))
    markers = tf.concat([tf.cast(tf.where(~in_scan)[:, 0], tf.int32), [tf.size(data)]], 0)

    def segment(data, place):
        kind, length = _number(data, place, 2), _number(data, place + 2, 2)
        alone = (kind == 0xFF01) | ((kind >= 0xFFD0) & (kind <= 0xFFD9))
        after = place + tf.where(kind == 0xFFFF, 1, tf.where(alone, 2, 2 + length))
        behind = markers[tf.minimum(tf.searchsorted(markers, [after])[0], tf.size(markers) - 1)]
        after = tf.where(kind == _code(_SCAN), behind, after)
        return kind, place + 4, length - 2, tf.where(kind <= 0xFF00, tf.size(data), after)

    segments, whole = _segments(segment, data, 2, _END)
    scans = tf.concat([segments[:, 0] == _code(_SCAN), [True]], 0)
    head = segments[: tf.argmax(scans)]  # Pillow looks at what precedes the pixels
    exif = _of(head, _APP1, data, b"Exif\0\0")
    frame = _span(tf.boolean_mask(segments, _is_any(segments[:, 0], _FRAMES)))[0]
    bits, channels = _number(data, frame, 1), _number(data, frame + 5, 1)
    reason = _first(
        _if(~whole, "it is cut off or damaged: its end is not there"),
        _if((bits != 8) | ~_is_any(channels, (1, 3)),
            f"a JPEG of CMYK or other unusual channels, which is not served; {_CONVERT}"),
        _if(tf.shape(exif)[0] > 1, f"its EXIF is in pieces; {_CONVERT}"),
    )  # fmt: skip
    area = tf.stack([_number(data, frame + 1, 2), _number(data, frame + 3, 2)])
    xmp = _of(head, _APP1, data, b"http://ns.adobe.com/xap/1.0/\0")
    return _Look(reason, area, _span(exif), _span(xmp))


_KNOWN = (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"iCCP",
          b"sBIT", b"bKGD", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"eXIf")  # fmt: skip
_TEXTS = b"tEXt", b"zTXt", b"iTXt"
_XMP = b"XML:com.adobe.xmp"
_HIDING = b"exif", b"Raw profile type exif", b"xmp", b"transparency", b"bbox"
"""Names of texts that Pillow takes for what they say."""


def _png_chunk(data, place):
    length = _number(data, place, 4)
    return _number(data, place + 4, 4), place + 8, length, place + 12 + length


def _look_at_png(data):
    chunks, whole = _segments(_png_chunk, data, 8, b"IEND")
    depth, color = _number(data, 24, 1), _number(data, 25, 1)
    texts = tf.boolean_mask(chunks, _is_any(chunks[:, 0], [_code(kind) for kind in _TEXTS]))
    hidden = tf.concat([_named(texts, data, name) for name in _HIDING], 0)
    xmp = _named(texts, data, _XMP)
    usual = (xmp[:, 0] == _code(b"iTXt")) & _says(data, xmp[:, 1] + len(_XMP), bytes(5))
    reason = _first(
        _if(~whole, "it is cut off or damaged: its end is not there"),
        _if(~tf.reduce_all(_is_any(chunks[:, 0], [_code(kind) for kind in _KNOWN])),
            f"a PNG of unusual chunks, an animated one perhaps, which is not served; {_CONVERT}"),
        _if((tf.size(hidden) > 0) | (tf.size(usual) > 1) | ~tf.reduce_all(usual),
            f"its EXIF or XMP is in an unusual place; {_CONVERT}"),
        _if(_has(chunks, b"tRNS") & (color != 3) & (depth != 8),
            f"a transparent colour of other than 8 bits, which is not served; {_CONVERT}"),
        _if(_has(chunks, b"tRNS") & ~_is_transparent(chunks, color),
            f"its transparent colours are in an unusual place or number; {_CONVERT}"),
    )  # fmt: skip
    area = tf.stack([_number(data, 20, 4), _number(data, 16, 4)])
    return _Look(reason, area, _span(_of(chunks, b"eXIf")), _span(xmp))


def _named(texts, data, name):
    """Those texts of a PNG that have a name."""
    place, length = texts[:, 1], texts[:, 2]
    ends = (length == len(name)) | (_number(data, place + len(name), 1) == 0)
    return tf.boolean_mask(texts, _says(data, place, name) & ends)


def _is_transparent(chunks, color):
    """Whether a PNG's tRNS is one that all decoders heed."""
    holes, palette = _of(chunks, b"tRNS"), _span(_of(chunks, b"PLTE"))
    place, length = tf.unstack(_span(holes))
    most = tf.gather([2, 0, 6, palette[1] // 3, 0, 0, 0], tf.minimum(color, 6))
    least = tf.where(color == 3, 1, most)
    pixels = tf.reduce_min(_of(chunks, b"IDAT")[:, 1])
    fits = (length >= least) & (length <= most) & (palette[0] < place) & (place < pixels)
    return fits & (tf.shape(holes)[0] == 1)


def _webp_chunk(data, place):
    length = _number(data, place + 4, 4, little=True)
    return _number(data, place, 4), place + 8, length, place + 8 + length + length % 2


def _look_at_webp(data):
    end = 8 + _number(data, 4, 4, little=True)
    inside = tf.concat([data[: tf.clip_by_value(end, 0, _size(data))], data[-64:]], 0)
    chunks, _ = _segments(_webp_chunk, inside, 12, b"")
    first, body = _number(data, 12, 4), 20
    # Bits of the lossless header: width − 1 and height − 1, 14 each.
    packed = _number(data, body + 1, 4, little=True)
    extended = [_number(data, body + 7, 3, True) + 1, _number(data, body + 4, 3, True) + 1]
    lossless = [packed // 2**14 % 2**14 + 1, packed % 2**14 + 1]
    lossy = [_number(data, body + 8, 2, True) % 2**14, _number(data, body + 6, 2, True) % 2**14]
    area = tf.where(first == _code(b"VP8L"), lossless, lossy)
    area = tf.where(first == _code(b"VP8X"), extended, area)
    flags = tf.where(first == _code(b"VP8X"), _number(data, body, 1), 0)

    def flagged(kind, flag):
        """The first of a kind, as its header announces it; others count for nothing."""
        return _span(_of(chunks, kind)[:1]) * tf.cast(flags & flag > 0, tf.int32)

    alpha, pictures = _has(chunks, b"ALPH"), [_code(b"VP8 "), _code(b"VP8L")]
    pictures = tf.reduce_sum(tf.cast(_is_any(chunks[:, 0], pictures), tf.int32))
    whole = (end >= 20) & (end <= _size(data)) & (_number(data, 8, 4) == _code(b"WEBP"))
    whole &= tf.reduce_all(chunks[:, 1] + chunks[:, 2] <= end)
    reason = _first(
        _if(~whole, "it is cut off or damaged"),
        _if(_has(chunks, b"ANIM"), f"an animated WebP, which is not served; {_CONVERT}"),
        _if((pictures != 1) | (alpha & (flags & 16 == 0)),
            f"a WebP of unusual chunks, which is not served; {_CONVERT}"),
    )  # fmt: skip
    return _Look(reason, area, flagged(b"EXIF", 8), flagged(b"XMP ", 4))


def _look_at_bmp(data):
    plain = (_number(data, 14, 4, True) == 40) & (_number(data, 28, 2, True) == 24)
    plain &= _number(data, 30, 4, True) == 0
    reason = _if(~plain, f"a BMP of other than 24 plain bits, which is not served; {_CONVERT}")
    area = tf.stack([tf.abs(_number(data, 22, 4, True)), _number(data, 18, 4, True)])
    return _Look(reason, area, tf.zeros_like(area), tf.zeros_like(area))


_LOOKS = (_look_at_jpeg, _look_at_png, _look_at_webp, _look_at_bmp)  # in the order of _SIGNATURES


_UNITS = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 0])
"""Bytes of a value of EXIF by its type; 0 of types that Pillow does not know."""


def _orientation(encoded, data, look):
    """(why its EXIF is not understood or "", orientation 1..8).

    EXIF's first directory says it or, where that does not, XMP does.
    """
    place, length = look.exif[0], look.exif[1]
    prefixed = _says(data, place, b"Exif\0\0")
    start, stop = tf.where(prefixed, place + 6, place), place + length
    little = _number(data, start, 1) == ord("I")

    def number(place, size):
        return tf.where(little, _number(data, place, size, True), _number(data, place, size))

    directory = start + number(start + 4, 4)
    entries = directory + 2 + 12 * tf.range(number(directory, 2))
    header = _says(data, start, b"II*\0") | _says(data, start, b"MM\0*")
    fits = (directory > start) & (directory + 2 + 12 * number(directory, 2) <= stop)
    turns = tf.boolean_mask(entries, number(entries, 2) == 0x0112)
    usual = tf.reduce_all((number(turns + 2, 2) == 3) & (number(turns + 4, 4) == 1))
    usual &= tf.size(turns) <= 1
    # Pillow reads no further than to an entry whose content lies beyond the end.
    before = tf.boolean_mask(entries, entries < tf.concat([turns, [directory]], 0)[0])
    count, content = (_unsigned(number(before + at, 4)) for at in (4, 8))
    size = count * tf.gather(_UNITS, tf.minimum(number(before + 2, 2), len(_UNITS) - 1))
    fits &= tf.reduce_all((size <= 4) | (content + size <= tf.cast(stop - start, tf.int64)))
    wrong = _if((length > 0) & ~(header & fits & usual), f"its EXIF is damaged or odd; {_CONVERT}")
    given = tf.concat([[_of_xmp(encoded, look.xmp)], number(turns + 8, 2)], 0)[-1]
    turned = tf.where((length > 0) & (tf.size(turns) > 0), given, _of_xmp(encoded, look.xmp))
    return wrong, tf.where((turned >= 1) & (turned <= 8), turned, 1)


def _of_xmp(encoded, xmp):
    """The orientation that XMP names, as Pillow finds it; 1 where it names none."""
    size = tf.strings.length(encoded)
    text = tf.strings.substr(encoded, tf.minimum(xmp[0], size), tf.maximum(xmp[1], 0))
    named = r'(?s)^\C*?tiff:Orientation(?:="|>)([0-9])\C*$'
    digit = tf.strings.regex_replace(text, named, r"\1")
    found = tf.strings.regex_full_match(digit, "[0-9]")
    return tf.strings.to_number(tf.where(found, digit, "1"), tf.int32)


# --------------------------------------------------------------------------- bytes and segments


def _segments(step, data, place, last):
    """The segments of a file from a place on, and whether one of kind `last` is among them.

    Args:
      step: `step(data, place) → (kind, place of its content, its length, place of the next)`.

    Returns:
      int32 `[n, 3]` (kind, place, length) and a bool.
    """

    def goes_on(_, place, whole):
        return ~whole & (place < _size(data))

    def one(found, place, _):
        kind, body, length, after = step(data, place)
        found = found.write(found.size(), tf.stack([kind, body, length]))
        return found, tf.where(after > place, after, tf.size(data)), kind == _code(last)

    found = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=[3])
    begin = found, tf.constant(place), tf.constant(False)
    found, place, whole = tf.while_loop(goes_on, one, begin)
    return found.stack(), whole & (place <= _size(data))


def _of(segments, kind, data=None, prefix=b""):
    """Those of a kind and, if one is given, of a prefix."""
    hits = segments[:, 0] == _code(kind)
    if prefix:
        hits &= _says(data, segments[:, 1], prefix)
    return tf.boolean_mask(segments, hits)


def _has(segments, kind):
    return tf.reduce_any(segments[:, 0] == _code(kind))


def _span(segments):
    """[place, length] of the last of them, or zeros."""
    return tf.concat([tf.zeros([1, 2], tf.int32), segments[:, 1:]], 0)[-1]


def _size(data):
    return tf.size(data) - 64


def _code(kind):
    return int.from_bytes(kind, "big")


def _bytes(data, place, count):
    """The bytes from a place on, uint8 `[…, count]`; the place is of any shape."""
    places = tf.convert_to_tensor(place)[..., None] + tf.range(count)
    return tf.gather(data, tf.clip_by_value(places, 0, tf.size(data) - 1))


def _number(data, place, size, little=False):
    """An unsigned number of 1 to 4 bytes, int32: negative where it is too large. Of any shape."""
    shifts = 8 * (np.arange(size) if little else np.arange(size)[::-1])
    found = tf.cast(_bytes(data, place, size), tf.int32)
    return tf.reduce_sum(tf.bitwise.left_shift(found, shifts.astype(np.int32)), -1)


def _unsigned(number):
    """A number of 4 bytes, int64."""
    return tf.cast(tf.bitcast(number, tf.uint32), tf.int64)


def _says(data, place, text):
    """Whether these bytes stand at a place, of any shape."""
    return tf.reduce_all(_bytes(data, place, len(text)) == tuple(text), -1)


def _begins(encoded, text):
    return tf.strings.substr(encoded, 0, len(text)) == text


def _is_any(value, numbers):
    return tf.reduce_any(tf.stack([value == number for number in numbers]), 0)


def _if(condition, reason):
    return tf.where(condition, reason, "")


def _first(*reasons):
    found = tf.constant("")
    for reason in reasons:
        found = tf.where(found == "", reason, found)
    return found
