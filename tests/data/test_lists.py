"""Lists of image ids in every form that is in the wild, and what is no list."""

import pytest

from aepsl_tf.data import lists
from aepsl_tf.errors import InputError

GOOD = {
    "one id a line": (b"b\na\n", ["b", "a"]),
    "no last newline": (b"b\na", ["b", "a"]),
    "CRLF and blank lines": (b"\r\nb\r\n\r\n  a \r\n", ["b", "a"]),
    "old Mac": (b"b\ra\r", ["b", "a"]),
    "a byte-order mark": (b"\xef\xbb\xbfb\na\n", ["b", "a"]),
    "UTF-16": ("bé\na\n".encode("utf-16"), ["bé", "a"]),
    "UTF-16 without a mark": ("bcd\na\n".encode("utf-16-le"), ["bcd", "a"]),
    "UTF-32": ("b\na\n".encode("utf-32"), ["b", "a"]),
    "Latin-1": ("bé\na\n".encode("latin-1"), ["bé", "a"]),
    "ids with spaces": (b"IMG 1\nIMG 2\n", ["IMG 1", "IMG 2"]),
    "ids that end in a number": (b"IMG 1\nIMG 0\n", ["IMG 1", "IMG 0"]),
    "in folders": (b"trip/a\ntrip/b c\n", ["trip/a", "trip/b c"]),
    "path pairs": (b"/JPEGImages/b.jpg /SegmentationClassAug/b.png\n"
                   b"/JPEGImages/a.jpg /SegmentationClassAug/a.png\n", ["b", "a"]),
    "path pairs with spaces": (b"/JPEGImages/IMG 1.jpg /SegmentationClass/IMG 1.png\n", ["IMG 1"]),
    "paths": (b"/JPEGImages/b.jpg\nJPEGImages/a.JPG\n", ["b", "a"]),
    "names with suffixes": (b"b.jpg\ntrip/a.PNG\n", ["b", "trip/a"]),
    "pairs below folders": (b"cat/a.jpg masks/cat/a.png\n", ["cat/a"]),
    "a screenshot of a Mac": ("Bild 3.00\u202fPM\n👨\u200d👩\u200d👧\n".encode(),
                              ["Bild 3.00\u202fPM", "👨\u200d👩\u200d👧"]),
    "a Main list of ones": (b"b  1\na  1\n", ["b", "a"]),
    "a Main list": (b"b -1\na  1\nc  0\n", ["b", "a", "c"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", GOOD)
def test_a_list_in_the_wild(tmp_path, kind):
    content, ids = GOOD[kind]
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    assert lists.read(path) == ids


BAD = {
    "empty": (b"", "names no image"),
    "blank": (b"\n  \r\n", "names no image"),
    "twice": (b"a\nb\na\n", "a is listed twice, in lines 1 and 3"),
    "twice, before a worse line": (b"\na\n\nb\na\n../b\n", "a is listed twice, in lines 2 and 5"),
    "twice, behind a worse line": (b"a\n../b\na\n", "line 2: '../b' is no image id"),
    "above": (b"a\n../b\n", "line 2: '../b' is no image id: a path that leaves its folder"),
    "here": (b"./b\n", "line 1.*a path that leaves its folder"),
    "from the root": (b"/etc/passwd\n", "a path that leaves its folder or names none"),
    "another picture's mask": (b"/JPEGImages/a.jpg /M/b.png\n", "line 1.*mask of another picture"),
    "joined files": ("a\n\ufeffb\n".encode(), "characters that file names should not hold"),
    "long": (b"a\n" + b"x" * 300 + b"\n", "line 2.*a name of more than 240 bytes"),
    "backslashes": (b"trip\\a\n", "characters that file names should not hold"),
    "binary": (bytes(range(256)), "is no text"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00", "is no text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_list_is_told_in_one_line(tmp_path, kind):
    content, message = BAD[kind]
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        lists.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        lists.read(tmp_path)
