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

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2, autograph=False)
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


def directory(*entries, tail=b""):
    """EXIF of entries (tag, type, count, value or place)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4) + tail


def with_segments(*bodies):
    """A JPEG that begins with these APP1."""
    segments = (b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body for body in bodies)
    whole = saved(smooth("RGB"), "JPEG")
    return whole[:2] + b"".join(segments) + whole[2:]


def webp(*chunks):
    body = b"".join(k + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for k, b in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def within(file, less):
    """A WebP that ends before its last bytes, which are there."""
    return file[:4] + struct.pack("<I", len(file) - 8 - less) + file[8:]


def of_webp(flags):
    """(an extended header, the picture's chunk)."""
    sides = struct.pack("<I", WIDTH - 1)[:3] + struct.pack("<I", HEIGHT - 1)[:3]
    plain = saved(smooth("RGB"), "WEBP")
    return (b"VP8X", bytes([flags, 0, 0, 0]) + sides), (b"VP8 ", plain[20:])


def with_holes(color, *holes, palette=16, last=False):
    """A PNG of 4 or 8 bits with tRNS, before the palette if it is `last`."""
    depth, plte = (4, [chunk(b"PLTE", RNG.bytes(3 * palette))]) if color == 3 else (8, [])
    channels = {0: 1, 2: 3, 3: 1}[color]
    row = -(-WIDTH * depth * channels // 8)
    rows = zlib.compress(b"".join(bytes(1 + row) for _ in range(HEIGHT)))
    holes = [chunk(b"tRNS", hole) for hole in holes]
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color, 0, 0, 0)),
             *(holes + plte if last else plte + holes), chunk(b"IDAT", rows)]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND")


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
    maker, turn = (0x010F, 2, 6, 38), (0x0112, 3, 1, 6)
    header, picture = of_webp(0)
    announced, _ = of_webp(8)
    upside, turned = ((b"EXIF", directory((0x0112, 3, 1, n))) for n in (3, 6))
    files |= {
        "JPEG, a maker behind the directory": with_segments(
            b"Exif\0\0" + directory(maker, turn, tail=b"maker\0")),
        "JPEG, what follows the turn is cut": with_segments(
            b"Exif\0\0" + directory(turn, (0x0131, 2, 9, 5000))),
        "JPEG, a type that nobody knows": with_segments(
            b"Exif\0\0" + directory((0x010F, 99, 9, 5000), turn)),
        "WebP, EXIF": webp(announced, picture, turned),
        "WebP, EXIF twice": webp(announced, picture, turned, upside),
        "WebP, EXIF unannounced": webp(header, picture, turned),
        "WebP, EXIF of no extended one": webp(picture, turned),
        "WebP, EXIF behind the end": webp(announced, picture) + webp(turned)[12:],
        "PNG, palette and holes": with_holes(3, bytes(range(0, 160, 10))),
        "PNG, palette and few holes": with_holes(3, bytes([0, 90, 0])),
        "PNG, a text of EXIF's parts": png(8, 2, chunk(b"tEXt", b"exif:Make\0x")),
    }  # fmt: skip
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


def misleading():
    """Files that Pillow and TensorFlow take for different pictures."""
    maker, turn = (0x010F, 2, 7, 38), (0x0112, 3, 1, 6)
    header, picture = of_webp(0)
    turned, name = directory(turn), b"XML:com.adobe.xmp"
    alpha = saved(smooth("RGBA"), "WEBP")
    last = png(8, 0)[:-12]
    files = {
        "EXIF that turns twice": with_segments(b"Exif\0\0" + directory(turn, (0x0112, 3, 1, 3))),
        "EXIF cut before the turn": with_segments(
            b"Exif\0\0" + directory(maker, turn, tail=b"maker\0")),
        "EXIF of a far place": with_segments(b"Exif\0\0" + directory((0x10F, 4, 2**31, 9), turn)),
        "EXIF within no segment": with_segments(b"Exif\0\0" + turned).replace(
            b"\xff\xe1", b"\xff\0" + struct.pack(">H", len(turned) + 12) + b"\xff\xe1", 1),
        "a text exif": png(8, 2, chunk(b"tEXt", b"exif\0" + turned)),
        "no text exif": png(8, 2, chunk(b"eXIf", turned), chunk(b"tEXt", b"exif")),
        "a text transparency": png(8, 2, chunk(b"tEXt", b"transparency\0x")),
        "a text xmp": png(8, 2, chunk(b"iTXt", name + b"\0\0\0\0\0\xe9" + xmp(6)),
                          chunk(b"iTXt", b"xmp\0\0\0\0\0x")),
        "an international profile": png(8, 2, chunk(
            b"iTXt", b"Raw profile type exif\0\0\0\0\0\nexif\n26\n" + turned.hex().encode())),
        "XMP packed oddly": png(8, 2, chunk(b"iTXt", name + b"\0\2\0\0\0" + xmp(6))),
        "XMP of no language": png(8, 2, chunk(b"iTXt", name + b"\0\0\0" + xmp(6))),
        "XMP in the language": png(8, 2, chunk(b"iTXt", name + b"\0\0\0" + xmp(6) + b"\0\0")),
        "XMP twice": png(8, 2, *(chunk(b"iTXt", name + b"\0\0\0\0\0" + more)
                                 for more in (xmp(6), b"\xff" + xmp(3)))),
        "holes before the palette": with_holes(3, bytes(16), last=True),
        "more holes than colours": with_holes(3, bytes(9), palette=7),
        "a number of no hole": with_holes(3, b""),
        "two lists of holes": with_holes(3, bytes(16), bytes([9] * 16)),
        "a hole of three bytes": with_holes(0, bytes(3)),
        "a hole behind the pixels": last + chunk(b"tRNS", b"\0\x50") + chunk(b"IEND"),
        "alpha unannounced": alpha[:20] + b"\0" + alpha[21:],
        "two pictures": webp(header, picture, picture),
        "half a chunk": within(webp(of_webp(8)[0], picture, (b"EXIF", turned)), 10),
    }  # fmt: skip
    return files


def test_what_would_be_seen_otherwise_is_refused(decode):
    for name, data in misleading().items():
        with pytest.raises(tf.errors.InvalidArgumentError) as found:
            decode(data, name)
            pytest.fail(name)
        assert f"{name}: " in found.value.message, name


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
