"""Seeded damage to files: what disks, networks, editors and people do to them."""

import json
import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"


def of_bytes(data, rng, others=()):
    """One to three faults of any file. Returns (damaged bytes, what was done)."""
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data, what = rng.choice(_BYTES)(data, rng, others)
        done.append(what)
    return data, "; ".join(done)


def _flip(data, rng, others):
    if not data:
        return b"\0", "one byte"
    place, bit = rng.randrange(len(data)), rng.randrange(8)
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :], f"bit at {place}"


def _set(data, rng, others):
    place, value = rng.randrange(len(data) + 1), rng.choice([0, 255, 10, 34, 128])
    return data[:place] + bytes([value]) + data[place + 1 :], f"byte {value} at {place}"


def _cut(data, rng, others):
    length = rng.choice(
        [0, 1, len(data) // 2, max(len(data) - 10, 0), rng.randrange(len(data) + 1)]
    )
    return data[:length], f"cut to {length}"


def _zero(data, rng, others):
    place, length = rng.randrange(len(data) + 1), rng.choice([1, 16, 1000])
    return data[:place] + bytes(len(data[place : place + length])) + data[place + length :], (
        f"zero {length} at {place}"
    )


def _remove(data, rng, others):
    place, length = rng.randrange(len(data) + 1), rng.choice([1, 4, 16, 200])
    return data[:place] + data[place + length :], f"without {length} at {place}"


def _insert(data, rng, others):
    place, new = rng.randrange(len(data) + 1), rng.randbytes(rng.choice([1, 4, 100]))
    return data[:place] + new + data[place:], f"{len(new)} bytes more at {place}"


def _repeat(data, rng, others):
    place, length = rng.randrange(len(data) + 1), rng.choice([1, 16, 200])
    part = data[place : place + length]
    return data[:place] + part + data[place:], f"{length} bytes twice at {place}"


def _other(data, rng, others):
    other = rng.choice([*others, b"", b"no such thing\n", bytes(range(256)), _PNG])
    return other, f"replaced by {other[:16]!r}"


def _joined(data, rng, others):
    other = rng.choice([*others, data])
    place = rng.randrange(len(data) + 1)
    return data[:place] + other[place:], f"from {place} on another file"


_BYTES = (_flip, _flip, _set, _cut, _zero, _remove, _insert, _repeat, _other, _joined)

_WORDS = ["", " ", ",", ";", "\t", '"', "'", "\0", "﻿", "é", "猫", "\r", "\n", "../x", "./x", "/",
          "..", "x" * 300, "1", "-1", "0", "nan", "cat", "CAT", "dog;cat", "unicorn", "<a>", "&b;",
          "]]>", "[" * 5000, "9" * 5000, "image,labels", "\u2028", "🐈"]  # fmt: skip


def of_text(data, rng, others=()):
    """Faults of people and editors in a text file; now and then one of bytes."""
    kind = rng.randrange(8)
    if kind == 0:
        return of_bytes(data, rng, others)
    text = data.decode()
    if kind == 1:
        encoding = rng.choice(["latin-1", "utf-16", "utf-16-le", "utf-8-sig", "utf-32", "cp037"])
        return (text + rng.choice(["", "é", "ü\n"])).encode(encoding), f"in {encoding}"
    lines = text.split("\n")
    for _ in range(rng.choice([1, 1, 2])):
        lines = lines or [""]
        place = rng.randrange(len(lines))
        line, word = lines[place], rng.choice(_WORDS)
        at = rng.randrange(len(line) + 1)
        lines[place] = rng.choice([
            word, line[:at] + word + line[at:], word + line, line + word, line[:at], line * 2,
            line + "," + line, line.replace(",", rng.choice(_WORDS)), line.swapcase(),
        ])  # fmt: skip
        if kind == 2:
            lines.insert(rng.randrange(len(lines) + 1), line)
        elif kind == 3:
            lines.pop(rng.randrange(len(lines)))
    return rng.choice(["\n", "\n", "\r\n", "\r"]).join(lines).encode(), f"lines, kind {kind}"


_VALUES = [None, True, False, 0, -1, 1.5, 1e308, 10**30, "", "x", "../x", "\0", "é", [], {}, [0],
           {"a": 1}, [[1, 2], [3]], float("nan"), float("inf"), "x" * 300, -0.5]  # fmt: skip


def of_json(data, rng, others=()):
    """Faults in a JSON tree; now and then one of bytes."""
    if rng.randrange(4) == 0:
        return of_bytes(data, rng, [*others, b"[" * 100_000, b"9" * 5000, b"[]", b"{}", b"null"])
    try:
        tree, done = json.loads(data), []
    except ValueError:  # what a reader takes beside JSON
        return of_text(data, rng, others)
    for _ in range(rng.choice([1, 1, 2])):
        path, holder = [], None
        node = tree
        while isinstance(node, (dict, list)) and node and (holder is None or rng.random() < 0.75):
            key = rng.choice(sorted(node) if isinstance(node, dict) else range(len(node)))
            holder, node = node, node[key]
            path.append(key)
        if holder is None:
            tree, what = rng.choice(_VALUES), "the whole"
        else:
            what = rng.choice(["value", "value", "removed", "in a list", "renamed"])
            if what == "value":
                holder[path[-1]] = rng.choice(_VALUES)
            elif what == "in a list":
                holder[path[-1]] = [node]
            elif what == "removed" or isinstance(holder, list):
                del holder[path[-1]]
            else:
                holder[rng.choice(["x", "", "id", "seal2"])] = holder.pop(path[-1])
        done.append(f"{'/'.join(map(str, path))} {what}")
    return json.dumps(tree).encode(), "; ".join(done)


def of_png(data, rng, others=()):
    """Faults in a PNG's chunks, whose checksums are made anew: what it says is then what it is."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    what, at = rng.randrange(6), rng.randrange(len(chunks))
    kind, body = chunks[at]
    if what == 0:
        chunks.pop(at)
    elif what == 1:
        chunks.insert(rng.randrange(len(chunks) + 1), (kind, body))
    elif what == 2:
        new = rng.choice([b"gAMA", b"tRNS", b"PLTE", b"IDAT", b"iCCP", b"XXXX", b"acTL", b"eXIf"])
        chunks.insert(
            rng.randrange(len(chunks) + 1), (new, rng.randbytes(rng.choice([0, 1, 4, 999])))
        )
    elif what == 3 and body:
        place = rng.randrange(len(body))
        chunks[at] = kind, body[:place] + rng.randbytes(1) + body[place + 1 :]
    elif what == 4:
        chunks[at] = kind, body[: rng.randrange(len(body) + 1)]
    else:
        field = rng.choice([0, 4, 8, 9, 10, 11, 12])
        size = 4 if field < 8 else 1
        value = rng.choice([0, 1, 2, 3, 16, 255, 40_000, 2**31 - 1, 2**32 - 1]) % (1 << 8 * size)
        head = chunks[0][1]
        chunks[0] = b"IHDR", head[:field] + value.to_bytes(size, "big") + head[field + size :]
    made = _PNG
    for kind, body in chunks:
        made += struct.pack(">I", len(body)) + kind + body
        made += struct.pack(">I", zlib.crc32(kind + body))
    return made, f"chunks, kind {what} at {at}"
