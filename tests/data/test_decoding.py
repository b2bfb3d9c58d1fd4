"""Picture files in a graph: `predict`'s pixels bit for bit, or a refusal that names the picture."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aepsl_tf.data import decoding, encoding, transforms
from aepsl_tf.errors import InputError

HEIGHT, WIDTH = 19, 26
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def decode():
    """`decode(bytes, name="…")` → pixels; of 10,000 pixels at most."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2)
    def graph(encoded, name):
        return decoding.decode_file(encoded, name, 10_000)

    return lambda data, name="picture 3": graph(data, name).numpy()


def wanted(data):
    """What `predict` sees."""
    return transforms.decode_image(encoding.standard_image(data, "file").encoded).numpy()


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def smooth(mode):
    shape = [5, 5, len(mode)] if len(mode) > 1 else [5, 5]
    coarse = Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))
    return coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def chunk(kind, body=b""):
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def png(depth, color, *chunks):
    """A PNG of noise, of any depth and colour type."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    row = -(-WIDTH * depth * channels // 8)
    rows = b"".join(b"\0" + RNG.bytes(row) for _ in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color, 0, 0, 0)
    palette = [chunk(b"PLTE", RNG.bytes(3 * 2**depth))] if color == 3 else []
    parts = [chunk(b"IHDR", header), *palette, *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND")


def exif(turned, order="<", kind=3):
    """EXIF of a maker and an orientation."""
    first = struct.pack(order + "HHIHH", 0x010F, 3, 1, 5, 0)
    second = struct.pack(order + "HHIHH", 0x0112, kind, 1, turned, 0)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, 2)
    return b"Exif\0\0" + head + first + second + bytes(4)


def xmp(turned):
    return b'<rdf:Description xmlns:tiff="ns" tiff:Orientation="%d"/>' % turned


def the_same():
    """Name → a file that is decoded."""
    rgb, rgba, la = smooth("RGB"), smooth("RGBA"), smooth("RGBA").convert("LA")
    noise = Image.fromarray(RNG.integers(0, 256, [HEIGHT, WIDTH, 4], dtype=np.uint8))
    few = rgb.quantize(9)
    files = {
        f"JPEG, quality {q}, subsampling {s}": saved(rgb, "JPEG", quality=q, subsampling=s)
        for q, s in itertools.product((40, 95), (0, 1, 2))
    }
    files |= {
        "JPEG, progressive": saved(rgb, "JPEG", progressive=True),
        "JPEG, grey": saved(smooth("L"), "JPEG"),
        "JPEG, RGB": saved(rgb, "JPEG", keep_rgb=True),
        "JPEG, more behind its end": saved(rgb, "JPEG") + b"more",
        "PNG": saved(rgb, "PNG"), "PNG, alpha": saved(rgba, "PNG"),
        "PNG, grey and alpha": saved(la, "PNG"), "PNG, noise and alpha": saved(noise, "PNG"),
        "PNG, palette and alpha": saved(few, "PNG", transparency=RNG.bytes(9)),
        "PNG, palette and one hole": saved(few, "PNG", transparency=3),
        "PNG, a transparent colour": saved(few.convert("RGB"), "PNG",
                                           transparency=few.convert("RGB").getpixel((4, 4))),
        "PNG, a transparent grey": saved(smooth("L").point(lambda v: v // 40 * 40), "PNG",
                                         transparency=120),
        "PNG, other chunks": png(8, 2, chunk(b"gAMA", bytes([0, 0, 80, 0])), chunk(b"sBIT", b"555"),
                                 chunk(b"iCCP", b"name\0\0" + zlib.compress(b"no profile"))),
        "WebP": saved(rgb, "WEBP"), "WebP, lossless": saved(rgb, "WEBP", lossless=True),
        "WebP, alpha": saved(rgba, "WEBP"),
        "WebP, lossless and alpha": saved(noise, "WEBP", lossless=True),
        "BMP": saved(rgb, "BMP"),
    }  # fmt: skip
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    files |= {f"PNG, type {c}, {d} bits": png(d, c) for c, ds in depths.items() for d in ds}
    for turned in range(10):
        for order in "<>":
            options = {"exif": exif(turned, order)}
            files |= {f"JPEG, EXIF {turned} {order}": saved(rgb, "JPEG", **options),
                      f"PNG, EXIF {turned} {order}": saved(rgba, "PNG", **options),
                      f"WebP, EXIF {turned} {order}": saved(rgb, "WEBP", **options)}  # fmt: skip
        itxt = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(turned))
        files |= {f"JPEG, XMP {turned}": saved(rgb, "JPEG", xmp=xmp(turned)),
                  f"PNG, XMP {turned}": png(8, 2, itxt),
                  f"WebP, XMP {turned}": saved(rgb, "WEBP", xmp=xmp(turned))}  # fmt: skip
    files["JPEG, EXIF before XMP"] = saved(rgb, "JPEG", exif=exif(6), xmp=xmp(3))
    return files


def refused():
    """Name → (a file, words of the reason)."""
    rgb, whole = smooth("RGB"), saved(smooth("RGB"), "JPEG")
    large = Image.new("RGB", (101, 100))
    files = {
        "JPEG, CMYK": (saved(smooth("RGBA").convert("CMYK"), "JPEG"), "CMYK"),
        "JPEG, cut": (whole[: len(whole) // 2], "cut off"),
        "JPEG, no end": (whole[:-2], "cut off"),
        "PNG, cut": (saved(rgb, "PNG")[:-9], "cut off"),
        "PNG, animated": (png(8, 2, chunk(b"acTL", bytes(8))), "unusual chunks"),
        "PNG, 16 bits and a hole": (png(16, 2, chunk(b"tRNS", bytes(6))), "transparent colour"),
        "PNG, hidden EXIF": (png(8, 2, chunk(b"tEXt", b"Raw profile type exif\0x")), "unusual"),
        "PNG, packed XMP": (png(8, 2, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0x")), "unusual"),
        "WebP, animated": (saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)]),
                           "animated"),
        "WebP, cut": (saved(rgb, "WEBP")[:-9], "cut off"),
        "BMP, palette": (saved(rgb.quantize(9), "BMP"), "a BMP of other than 24"),
        "GIF": (saved(rgb, "GIF"), "a GIF"), "TIFF": (saved(rgb, "TIFF"), "a TIFF"),
        "EXIF, odd": (saved(rgb, "JPEG", exif=exif(6, kind=4)), "EXIF is damaged or odd"),
        "EXIF, damaged": (saved(rgb, "JPEG", exif=exif(6)[:30]), "EXIF is damaged or odd"),
        "nothing": (b"", "no JPEG, PNG, WebP or BMP"), "text": (b"hello", "no JPEG"),
        "only RIFF": (b"RIFF", "cut off"), "only BM": (b"BM", "BMP"),
    }  # fmt: skip
    for kind, options in (("JPEG", {}), ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}),
                          ("WEBP", {"exif": exif(6)}), ("BMP", {})):  # fmt: skip
        name = f"{kind} {', '.join(options)}, too large"
        files[name] = saved(large, kind, **options), "more than 10000 pixels"
    return files


def test_the_pixels_are_those_that_predict_sees(decode):
    files = the_same()
    assert len(files) > 120
    for name, data in files.items():
        np.testing.assert_array_equal(decode(data), wanted(data), err_msg=name)


def test_turned_pictures_are_turned(decode):
    data = saved(smooth("RGB"), "JPEG", exif=exif(6))
    assert decode(data).shape == (WIDTH, HEIGHT, 3)


def test_alpha_is_laid_over_white_as_pillow_does_for_every_value():
    grey, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([grey, grey, grey, alpha], -1).astype(np.uint8)
    expected = np.asarray(encoding.to_rgb(Image.fromarray(pixels)))
    np.testing.assert_array_equal(decoding._over_white(pixels), expected)


def test_what_is_refused_is_named_with_the_reason(decode):
    for name, (data, reason) in refused().items():
        with pytest.raises(tf.errors.InvalidArgumentError) as found:
            decode(data, name)
        assert f"{name}: " in found.value.message, name
        assert reason in found.value.message, name


GOOD = [
    saved(smooth("RGB"), "JPEG", exif=exif(6)), saved(smooth("RGBA"), "PNG", exif=exif(3)),
    saved(smooth("RGB"), "WEBP", exif=exif(8), xmp=xmp(3)), saved(smooth("RGB"), "BMP"),
]  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damage_is_refused_or_seen_as_predict_sees_it(decode, data):
    """But for checksums: a PNG that only they tell from a good one is decoded."""
    whole = data.draw(st.sampled_from(GOOD))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(len(whole) - 1, 200)))
        damaged[place] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged)[: data.draw(st.integers(len(whole) // 2, len(whole)))]
    try:
        seen = decode(damaged)
    except tf.errors.InvalidArgumentError:
        return
    try:
        expected = wanted(damaged)
    except InputError:
        assert damaged.startswith((b"\x89PNG", b"BM", b"\xff\xd8"))
        return
    np.testing.assert_array_equal(seen, expected)
