"""Tags from CSV and XML as people write them; what is doubtful is told with its line."""

import tracemalloc

import pytest

from aepsl_tf.classes import ClassSet
from aepsl_tf.errors import InputError
from data_prep import tags

CLASSES = ClassSet.of_names(["cat", "Dog", "tv/monitor"])
SPACED = ClassSet.of_names(["cat", "big dog"])
IDS = ["a", "b"]

GOOD = {
    "plain": b"image,labels\na,cat\nb,Dog\n",
    "joined lines": b"image,labels\nb,Dog\na,cat\na,cat\n",
    "suffixes": b"image,labels\na.JPG,cat\nb.png,dog\n",
    "case and space": b"Image, Labels\n a , CAT \nb,dOg\n",
    "semicolons": b"image;labels\na;cat\nb;Dog\n",
    "tabs": b"image\tlabels\na\tcat\nb\tDog\n",
    "quotes": b'"image","labels"\n"a","cat"\n"b","Dog"\n',
    "more columns": b"n,labels,image,by\n1,cat,a,me\n2,Dog,b,me\n",
    "other names": b"file,tags\na,cat\nb,Dog\n",
    "a byte-order mark": b"\xef\xbb\xbfimage,labels\na,cat\nb,Dog\n",
    "UTF-16": "image,labels\na,cat\nb,Dog\n".encode("utf-16"),
    "Latin-1": "image,labels\né,what\na,cat\nb,Dog\n".encode("latin-1"),
    "CRLF and blank lines": b"image,labels\r\n\r\na,cat\r\n,\r\nb,Dog\r\n\r\n",
    "no last newline": b"image,labels\na,cat\nb,Dog",
    "a first line that is blank": b"\n\nimage;labels\na;cat\nb;Dog\n",
    "Excel's sep": b"sep=;\r\nimage;labels\r\na;cat\r\nb;Dog\r\n",
    "commas at the end": b"image,labels\na,cat,\nb,Dog,,\n",
    "Windows' quotes": "image,labels\n“x”,hat\na,cat\nb,Dog\n".encode("cp1252"),
    "other images": b"image,labels\na,cat\nz,unicorn\nb,Dog\n",
}


def written(tmp_path, content):
    path = tmp_path / "tags.csv"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("kind", GOOD)
def test_a_tag_file_in_the_wild(tmp_path, kind):
    assert tags.from_csv(written(tmp_path, GOOD[kind]), IDS, CLASSES) == {"a": [1], "b": [2]}


def test_another_picture_of_the_name_s_beginning(tmp_path):
    """Only a picture's suffix is left out."""
    path = written(tmp_path, b"image,labels\na,cat\na.edit,Dog\nb.v2.jpg,Dog\nb,cat\n")
    assert tags.from_csv(path, IDS, CLASSES) == {"a": [1], "b": [1]}


def test_two_ways_to_write_a_letter(tmp_path):
    path = written(tmp_path, "image,labels\né,cat\n".encode())
    assert tags.from_csv(path, ["e\u0301"], CLASSES) == {"e\u0301": [1]}


def test_two_ways_to_write_a_tag(tmp_path):
    path = written(tmp_path, "image,labels\na,caf\u00e9\nb,cafe\u0301\n".encode())
    names, _ = tags.names_in(path)
    assert names == ["caf\u00e9"]
    assert tags.from_csv(path, IDS, ClassSet.of_names(names)) == {"a": [1], "b": [1]}


def test_an_image_without_a_line_has_no_tag_where_that_is_wanted(tmp_path):
    path = written(tmp_path, b"image,labels\na,cat\n")
    assert tags.from_csv(path, IDS, CLASSES, lenient=True) == {"a": [1], "b": []}


def test_memory_hardly_grows_with_the_images(tmp_path):
    peaks = []
    for count in (10, 1000, 5000):  # the first time all else is loaded
        ids = [f"{i:06d}" for i in range(count)]
        path = written(tmp_path, "\n".join(["image,labels", *(f"{i},cat" for i in ids)]).encode())
        tracemalloc.start()
        tags.from_csv(path, ids, CLASSES)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[2] - peaks[1]) / 4000 < 150


def test_names_of_a_folder_s_own_classes(tmp_path):
    path = written(tmp_path, b'image,labels\na,"cat,Dog"\nb,"bird\nCat"\nc,big dog\n')
    assert tags.names_in(path)[0] == ["big dog", "bird", "cat", "Dog"]


@pytest.mark.parametrize(
    "cell",
    [
        '"cat,Dog"',
        '"cat, Dog"',
        '"cat\nDog"',
        "cat;Dog",
        "cat|dog",
        "cat Dog",
        "Dog; cat;",
        '"Dog;cat"',
    ],
)
def test_several_labels_in_a_cell(tmp_path, cell):
    path = written(tmp_path, f"image,labels\na,{cell}\n".encode())
    assert tags.from_csv(path, ["a"], CLASSES) == {"a": [1, 2]}


def test_two_lines_of_one_image_are_joined(tmp_path):
    path = written(tmp_path, b"image,labels\na,cat\na,dog\n")
    assert tags.from_csv(path, ["a"], CLASSES) == {"a": [1, 2]}


def test_a_name_with_a_space_is_one_name(tmp_path):
    path = written(tmp_path, b"image,labels\na,big dog\nb,big dog;cat\n")
    assert tags.from_csv(path, IDS, SPACED) == {"a": [2], "b": [1, 2]}


def test_names_that_differ_in_case_alone_are_not_guessed(tmp_path):
    classes = ClassSet(("Cat", "cat"), ((1, 1, 1), (2, 2, 2)), (False, False))
    path = written(tmp_path, b"image,labels\na,cat\nb,CAT\n")
    with pytest.raises(InputError, match="line 3: image b: unknown tag 'CAT'"):
        tags.from_csv(path, IDS, classes)


def test_no_label_is_no_tag(tmp_path):
    assert tags.from_csv(written(tmp_path, b"image,labels\na,\n"), ["a"], CLASSES) == {"a": []}


BAD = {
    "empty": (b"", "is empty: expected a first line"),
    "no header": (b"a,cat\nb,Dog\n", "expected a first line `image,labels`"),
    "two label columns": (b"image,labels,labels\na,cat,dog\n", "expected a first line"),
    "labels as columns": (b"image,labels\na,cat,dog\nb,Dog\n", "line 2 has 3 columns.*one cell"),
    "a column short": (b"image,labels\na,cat\nb\n", "line 3 has 1 columns, the header has 2"),
    "no image": (b"image,labels\n,cat\n", "line 2 names no image"),
    "unknown": (b"image,labels\na,cat\nb,unicorn\n", "line 3: image b: unknown tag 'unicorn'"),
    "missing": (b"image,labels\na,cat\n", "expected tags of 2 images, found 1; missing: b"),
    "an open quote": (b'image,labels\na,"cat\nb,Dog\n', "line 4: unexpected end"),
    "a huge field": (b"image,labels\na," + b"x" * 200_000 + b"\n", "line 2: field larger"),
    "binary": (bytes(range(256)), "is no text"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_tag_file_is_told_in_one_line(tmp_path, kind):
    content, message = BAD[kind]
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        tags.from_csv(path, IDS, CLASSES)
    assert "\n" not in str(caught.value) and path in str(caught.value)


def test_a_folder_in_its_place(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        tags.from_csv(str(tmp_path), IDS, CLASSES)


# --------------------------------------------------------------------------------------------- XML


def annotation(*names, head="", root="annotation"):
    objects = "".join(f"<object>\n <name>{name}</name>\n</object>" for name in names)
    return f"{head}<{root}>{objects}</{root}>"


DECLARED = '<?xml version="1.0" encoding="{}"?>'
XML = {
    "plain": annotation("cat", "Dog").encode(),
    "twice": annotation("cat", "dog", "CAT").encode(),
    "spaces": annotation(" cat ", "\nDog\n").encode(),
    "declared UTF-8": annotation("cat", "Dog", head=DECLARED.format("UTF-8")).encode(),
    "a byte-order mark": annotation("cat", "Dog").encode("utf-8-sig"),
    "UTF-16": annotation("cat", "Dog", head=DECLARED.format("utf-16")).encode("utf-16"),
    "gb2312": annotation("cat", "Dog", head=DECLARED.format("gb2312") + "<!-- 猫 -->"
                         ).encode("gb2312"),
    "spaces in its declaration": (
        b"<?xml version = '1.0' encoding = 'gb2312' ?>" + annotation("cat", "Dog").encode()),
    "latin-1": annotation("cat", "Dog", head="<?xml version='1.0' encoding='latin-1'?><!--é-->"
                          ).encode("latin-1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", XML)
def test_an_annotation_in_any_encoding(tmp_path, kind):
    path = tmp_path / "a.xml"
    path.write_bytes(XML[kind])
    assert tags.from_xml(path, CLASSES) == [1, 2]


def test_an_annotation_without_objects_has_no_tag(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(annotation())
    assert tags.from_xml(path, CLASSES) == []


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""
BAD_XML = {
    "empty": (b"", "not readable as XML"),
    "text": (b"cat", "not readable as XML"),
    "cut": (annotation("cat").encode()[:-5], "not readable as XML"),
    "a bomb": (BOMB.encode(), "it defines entities"),
    "an unknown encoding": (annotation(head=DECLARED.format("klingon")).encode(),
                            "not readable as XML"),
    "no encoding of text": (annotation(head=DECLARED.format("zlib")).encode(),
                            "not readable as XML"),
    "idna": (annotation(head=DECLARED.format("idna")).encode() + b"\xff",
             "not readable as XML"),
    "another encoding than it says": (
        annotation(head=DECLARED.format("ascii") + "<!--é-->").encode(), "not readable"),
    "something else": (annotation("cat", root="html").encode(), "expected VOC's <annotation>"),
    "an unknown tag": (annotation("unicorn").encode(), "unknown tag 'unicorn'"),
    "deep": (b"<annotation>" + b"<a>" * 100_000, "not readable as XML"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_XML)
def test_what_is_no_annotation_is_told_in_one_line(tmp_path, kind):
    content, message = BAD_XML[kind]
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        tags.from_xml(path, CLASSES)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_misspelt_tag_gets_the_nearest_name(tmp_path):
    horses = ClassSet.of_names(["Horse", "tv/monitor", "cow"])
    path = written(tmp_path, b"image,labels\na,hrose\nb,cow\n")
    with pytest.raises(InputError, match="image a: unknown tag 'hrose'; nearest: Horse; this run"):
        tags.from_csv(path, IDS, horses)
    assert "unknown tag 'TVMONITOR'; nearest: tv/monitor;" in horses.unknown("TVMONITOR")
    (tmp_path / "a.xml").write_text(annotation("cwo"))
    with pytest.raises(InputError, match="unknown tag 'cwo'; nearest: cow;"):
        tags.from_xml(tmp_path / "a.xml", horses)
    assert "unknown tag 'zebra'; this run's classes are: Horse, tv" in horses.unknown("zebra")
