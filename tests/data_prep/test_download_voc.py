"""VOC and SBD as small archives on loopback: whole, killed, and bad in every way."""

import errno
import fcntl
import gzip
import hashlib
import http.server
import io
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import types

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from conftest import jpeg, reader
from PIL import Image

from aepsl_tf import config
from aepsl_tf.classes import VOC
from aepsl_tf.data import records
from aepsl_tf.errors import InputError
from aepsl_tf.run_dir import RunDir
from data_prep import download_voc, write_voc

ROOT = pathlib.Path(download_voc.__file__).parents[1]
TRAIN, VAL = ("a", "b"), ("c", "d")
SBD_TRAIN, SBD_VAL = ("a", "c", "e", "f"), ("d", "g", "h")
TRAIN_AUG = ["a", "b", "e", "f", "g", "h"]
ONLY_SBD = "h"
"""The picture that VOC's archive lacks."""
NOISE = np.random.default_rng(0).bytes(300_000)
"""Makes the archives longer than the pieces that they come in."""


# ------------------------------------------------------------------------------------ the archives


def picture(id_):
    return jpeg(np.random.default_rng(ord(id_)).integers(0, 256, [20, 30, 3], dtype=np.uint8))


def mask(id_, label):
    values = np.zeros([20, 30], np.uint8)
    values[2:9, 3:20] = label
    values[ord(id_) % 20] = label
    return values


def voc_png(id_):
    values = mask(id_, 7)
    values[0] = 255
    file = io.BytesIO()
    image = Image.fromarray(values, "P")
    image.putpalette(VOC.palette().tobytes())
    image.save(file, "PNG")
    return file.getvalue()


def annotation(id_, **changes):
    """A .mat as SBD's: a struct of the class ids, their boundaries and which of them are there."""
    boundaries = np.empty([20, 1], object)
    for index in range(20):
        boundaries[index, 0] = scipy.sparse.csc_matrix(np.zeros([20, 30], np.uint8))
    content = {"Boundaries": boundaries, "Segmentation": mask(id_, 12),
               "CategoriesPresent": np.array([[12]], np.uint8)} | changes  # fmt: skip
    file = io.BytesIO()
    scipy.io.savemat(file, {"GTcls": content}, do_compression=True)
    return file.getvalue()


def voc_files():
    top, pictures = "VOCdevkit/VOC2012", sorted({*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL} - {ONLY_SBD})
    lists = {"train": TRAIN, "val": VAL}
    return (
        {f"{top}/Annotations/{id_}.xml": b"<annotation><object><name>cat</name></object>"
         b"</annotation>" for id_ in pictures}
        | {f"{top}/ImageSets/Main/noise.txt": NOISE}
        | {f"{top}/ImageSets/Segmentation/{split}.txt": "".join(f"{id_}\n" for id_ in ids).encode()
           for split, ids in lists.items()}
        | {f"{top}/JPEGImages/{id_}.jpg": picture(id_) for id_ in pictures}
        | {f"{top}/SegmentationClass/{id_}.png": voc_png(id_) for id_ in TRAIN + VAL}
    )  # fmt: skip


def sbd_files():
    top = "benchmark_RELEASE/dataset"
    return (
        {"benchmark_RELEASE/README": b"of no use here", f"{top}/cls/._a.mat": b"a Mac's"}
        | {f"{top}/cls/{id_}.mat": annotation(id_) for id_ in SBD_TRAIN + SBD_VAL}
        | {f"{top}/img/{id_}.jpg": picture(id_) for id_ in SBD_TRAIN + SBD_VAL}
        | {f"{top}/inst/noise.mat": NOISE}
        | {f"{top}/train.txt": "\n".join(SBD_TRAIN).encode(),
           f"{top}/val.txt": "\n".join(SBD_VAL).encode()}
    )  # fmt: skip


def pack(files, mode, *more):
    """A tar archive of files by name, then of `more`: members with nothing in them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode, format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in more:
            archive.addfile(member)
    return packed.getvalue()


def voc_tar(*more, **changes):
    return pack(voc_files() | changes.get("files", {}), "w", *more)


def sbd_tgz(*more, **changes):
    return pack(sbd_files() | changes.get("files", {}), "w:gz", *more)


VOC_TAR, SBD_TGZ = voc_tar(), sbd_tgz()


def member(name, kind=tarfile.REGTYPE, link="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


# -------------------------------------------------------------------------------------- the server


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with its faults."""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if self.path in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[self.path])
            self.end_headers()
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        data, start = server.files[self.path], 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            where = start + server.shifted
            self.send_header("Content-Range", f"bytes {where}-{len(data) - 1}/{len(data)}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = server.stops.pop(self.path, None)
        self.wfile.write(data[start:stop])
        self.wfile.flush()
        if stop is not None and server.hangs:
            server.reached.set()
            server.go_on.wait(60)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.moved, self.asked, self.stops = {}, {}, [], {}
        self.ranges = self.tells_length = True
        self.hangs, self.shifted = False, 0
        self.reached, self.go_on = threading.Event(), threading.Event()

    def handle_error(self, *args):  # a killed client
        pass

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


@pytest.fixture
def server(monkeypatch):
    """Both archives on loopback, at /voc.tar and /sbd.tgz."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    server = Server()
    server.files = {"/voc.tar": VOC_TAR, "/sbd.tgz": SBD_TGZ}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


def values(server, folder, **changes):
    """Settings that find the archives where the server has them."""
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in server.files.items()}
    return {
        "download_dir": str(folder),
        "voc_url": server.url("/voc.tar"), "voc_md5": md5.get("/voc.tar", "0" * 32),
        "sbd_url": server.url("/sbd.tgz"), "sbd_md5": md5.get("/sbd.tgz", "0" * 32),
    } | changes  # fmt: skip


@pytest.fixture
def download(server, tmp_path):
    """`download(**settings)` → the devkit's folder."""

    def download(**changes):
        return download_voc.run(config.DownloadVoc(**values(server, tmp_path / "data", **changes)))

    return download


def tree(folder):
    """Relative name → bytes of all files."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(download, *words, **settings):
    """The one line that the download ends in, with these words in it."""
    with pytest.raises(InputError) as caught:
        download(**settings)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    return line


# ----------------------------------------------------------------------------------------- the way


def test_both_archives_become_a_devkit(download, server, tmp_path):
    root = download()
    assert root == tmp_path / "data/VOCdevkit/VOC2012"
    expected = {name.removeprefix("VOCdevkit/VOC2012/"): data for name, data in voc_files().items()}
    found = tree(root)
    masks = {name: data for name, data in found.items() if name.startswith("SegmentationClassAug")}
    more = {"ImageSets/Segmentation/train_aug.txt": "".join(f"{i}\n" for i in TRAIN_AUG).encode(),
            f"JPEGImages/{ONLY_SBD}.jpg": picture(ONLY_SBD)}  # fmt: skip
    assert found == expected | more | masks
    assert {pathlib.Path(name).stem for name in masks} == {*TRAIN_AUG, *VAL}
    for name, data in masks.items():
        id_, image = pathlib.Path(name).stem, Image.open(io.BytesIO(data))
        if id_ in TRAIN + VAL:  # VOC's own is better than SBD's
            assert data == voc_png(id_)
        else:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), mask(id_, 12))
            assert image.getpalette()[36:39] == list(VOC.colors[11])
    assert {path.name for path in (tmp_path / "data").iterdir()} == {
        "VOCdevkit", "VOCtrainval_11-May-2012.tar", "benchmark.tgz", ".lock"
    }  # fmt: skip
    assert server.asked == [("/voc.tar", None), ("/sbd.tgz", None)]


def test_a_second_time_nobody_is_asked(download, server, tmp_path):
    download()
    before, asked = tree(tmp_path), len(server.asked)
    download()
    assert tree(tmp_path) == before and len(server.asked) == asked


def test_write_voc_reads_train_aug(download, tmp_path):
    root, run_dir = download(), RunDir(tmp_path / "run")
    (root / f"Annotations/{ONLY_SBD}.xml").write_bytes((root / "Annotations/e.xml").read_bytes())
    settings = reader(voc_root=str(root), split="train_aug", tags_from="xml", ground_truth="none")
    write_voc.run(settings(config.WriteVoc), run_dir, workers=1)
    rows = records.Family(run_dir.family("train_aug", "images")).read()
    assert [row["image/id"] for row in rows] == TRAIN_AUG


def test_sbd_none_brings_voc_alone(download, server):
    root = download(sbd="none")
    assert not (root / "SegmentationClassAug").exists()
    assert not (root / "ImageSets/Segmentation/train_aug.txt").exists()
    assert [path for path, _ in server.asked] == ["/voc.tar"]


def test_archives_are_removed_on_demand(download, tmp_path):
    download(keep_archives=False)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"VOCdevkit", ".lock"}


def test_archives_that_are_there_are_used(download, server, tmp_path):
    (tmp_path / "data").mkdir()
    for name, path in (("VOCtrainval_11-May-2012.tar", "/voc.tar"), ("benchmark.tgz", "/sbd.tgz")):
        (tmp_path / "data" / name).write_bytes(server.files[path])
    assert (download() / "SegmentationClassAug/e.png").exists()
    assert server.asked == []


def test_with_a_devkit_nothing_is_downloaded(download, server, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(download(sbd="none"), own)
    server.asked.clear()
    before = tree(own)
    assert download(voc_root=str(own), download_dir="") == own
    assert tree(own) == before and server.asked == []


def test_a_devkit_gets_sbd_on_demand(download, server, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(download(sbd="none"), own)
    server.asked.clear()
    download(voc_root=str(own), sbd="download")
    assert [path for path, _ in server.asked] == ["/sbd.tgz"]
    whole = download()
    assert tree(own) == tree(whole)


def test_the_server_may_point_at_itself(download, server):
    server.moved = {"/old.tar": "/voc.tar"}
    assert download(voc_url=server.url("/old.tar")).exists()


@pytest.mark.parametrize(
    ("one", "other", "are"),
    [
        ("http://www.eecs.berkeley.edu/x", "https://www2.eecs.berkeley.edu/x", True),
        ("http://host.robots.ox.ac.uk/x", "https://thor.robots.ox.ac.uk/y", True),
        ("http://host:80/x", "https://host:8080/x", True),
        ("http://a.berkeley.edu/x", "http://b.berkeley.edu/x", False),
        ("http://a.co.uk/", "http://b.co.uk/", False),
        ("http://127.0.0.1/x", "http://10.0.0.1/x", False),
        ("http://host/x", "http://other/x", False),
    ],
)
def test_sisters(one, other, are):
    assert download_voc._sisters(one, other) == are


# ------------------------------------------------------------------------------------ killed, again


def test_a_cut_download_goes_on(download, server, tmp_path):
    server.stops = {"/voc.tar": 200_000}
    refusal(download, "200000 of", "run it again to go on")
    partial = tmp_path / "data/VOCtrainval_11-May-2012.tar.partial"
    assert partial.read_bytes() == server.files["/voc.tar"][:200_000]
    server.asked.clear()
    download()
    assert server.asked[0] == ("/voc.tar", "bytes=200000-")


@pytest.mark.parametrize("fault", ["no ranges", "other range"])
def test_a_server_that_cannot_go_on_starts_over(download, server, fault):
    server.stops = {"/voc.tar": 200_000}
    refusal(download, "200000 of")
    server.ranges, server.shifted = fault != "no ranges", 1
    assert download().exists()


def test_a_partial_file_that_is_too_long_starts_over(download, server, tmp_path):
    (tmp_path / "data").mkdir()
    partial = tmp_path / "data/VOCtrainval_11-May-2012.tar.partial"
    partial.write_bytes(server.files["/voc.tar"] + b"more")
    assert download().exists()
    assert server.asked[:2] == [("/voc.tar", f"bytes={len(server.files['/voc.tar']) + 4}-"),
                                ("/voc.tar", None)]  # fmt: skip


def test_a_whole_partial_file_needs_no_server(download, server, tmp_path):
    (tmp_path / "data").mkdir()
    partial = tmp_path / "data/VOCtrainval_11-May-2012.tar.partial"
    partial.write_bytes(server.files["/voc.tar"])
    download(sbd="none")
    assert server.asked == []


def test_a_length_is_not_needed(download, server):
    server.tells_length = False
    assert download().exists()


PROGRAM = """
import os, pathlib, sys
sys.argv = ["download_voc", *sys.argv[2:]] if (point := sys.argv[1]) else None
from dying import die_at_call
from aepsl_tf import config_flags
from data_prep import download_voc
exec(point)
config_flags.run_app(download_voc.main)
"""


def start(settings, point="pass"):
    """The command line in a process of its own, which dies at `point`."""
    flags = [f"--{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in settings.items()]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    return subprocess.Popen([sys.executable, "-c", PROGRAM, point, *flags], env=env, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # fmt: skip


def end(process):
    """(exit status, stderr)."""
    _, text = process.communicate(timeout=120)
    return process.returncode, text


def test_killed_at_many_points_it_ends_with_the_same_bytes(server, tmp_path):
    whole = values(server, tmp_path / "whole", keep_archives=False)
    download_voc.run(config.DownloadVoc(**whole))
    settings = whole | {"download_dir": str(tmp_path / "killed")}
    server.hangs = True

    def die_receiving(path, stop):
        server.stops, server.reached = {path: stop}, threading.Event()
        process = start(settings)
        assert server.reached.wait(60)
        process.kill()
        assert end(process)[0] == -signal.SIGKILL

    def die_writing(number):
        point = f"die_at_call(pathlib.Path, 'write_bytes', {number})"
        assert end(start(settings, point))[0] == -signal.SIGKILL

    def dies_renaming(after):
        point = f"die_at_call(os, 'replace', 1, after={after})"
        status, text = end(start(settings, point))
        assert status in (0, -signal.SIGKILL), text
        return status != 0

    die_receiving("/voc.tar", 100_000)
    die_receiving("/voc.tar", 250_000)
    assert dies_renaming(after=False) and dies_renaming(after=True)  # VOC's archive
    die_writing(1)
    die_writing(9)
    assert dies_renaming(after=False) and dies_renaming(after=True)  # the devkit
    die_receiving("/sbd.tgz", 100_000)
    assert dies_renaming(after=False) and dies_renaming(after=True)  # SBD's archive
    die_writing(2)
    for _ in range(3):  # the picture that only SBD has, the list, the masks
        assert dies_renaming(after=False) and dies_renaming(after=True)
    assert not dies_renaming(after=False)
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


# --------------------------------------------------------------------------------------- bad things


def test_no_folder_is_named(download):
    refusal(download, "--download_dir", download_dir="")


def test_no_network(download):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    refusal(download, "refused", "--voc_url", voc_url=f"http://127.0.0.1:{port}/voc.tar")


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "voc.tar", ""])
def test_other_addresses(download, url):
    refusal(download, "http://", voc_url=url)


@pytest.mark.parametrize("url", ["http://", "http://[/", "http://host:port/", "http://a b/"])
def test_addresses_that_are_none(download, url):
    refusal(download, "--voc_url", voc_url=url)


def test_not_found(download, server, tmp_path):
    refusal(download, "404", "--sbd_url", sbd_url=server.url("/none"))
    assert not (tmp_path / "data/benchmark.tgz").exists()


def test_another_site_is_never_asked(download, server):
    server.moved = {"/old.tar": f"http://localhost:{server.server_port}/voc.tar"}
    refusal(download, "another site", "localhost", voc_url=server.url("/old.tar"))
    assert [path for path, _ in server.asked] == ["/old.tar"]


def test_a_circle_of_addresses(download, server):
    server.moved = {"/a": "/b", "/b": "/a"}
    refusal(download, "302", "--voc_url", voc_url=server.url("/a"))


def test_no_http_at_all(download):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        refusal(download, "SSH-2.0", "--voc_url", voc_url=url)
        thread.join()


def test_a_silent_server(download, server, monkeypatch):
    monkeypatch.setattr(download_voc, "_TIMEOUT", 0.3)
    server.stops, server.hangs = {"/voc.tar": 200_000}, True
    refusal(download, "timed out", "run it again to go on")
    assert download().exists()


def test_another_md5(download, tmp_path):
    refusal(download, "not " + "1" * 32, "--voc_md5", voc_md5="1" * 32)
    assert list((tmp_path / "data").iterdir()) == [tmp_path / "data/.lock"]  # it starts over
    refusal(download, "--sbd_md5=12ab", sbd_md5="12ab")


def test_another_md5_of_an_archive_that_is_there(download, tmp_path):
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data/VOCtrainval_11-May-2012.tar"
    archive.write_bytes(b"mine")
    refusal(download, str(archive), "remove it")
    assert archive.read_bytes() == b"mine"


def test_a_body_without_end(download, monkeypatch):
    monkeypatch.setattr(download_voc, "MAX_BYTES", 100_000)
    refusal(download, "more than")


def test_two_at_once(download, tmp_path):
    (tmp_path / "data").mkdir()
    with open(tmp_path / "data/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refusal(download, "another process")


EVIL = {
    "parent": ([member("VOCdevkit/VOC2012/../../../evil")], "leads out"),
    "parent elsewhere": ([member("other/../../evil")], "leads out"),
    "absolute": ([member("/tmp/evil")], "leads out"),
    "symlink": ([member("VOCdevkit/VOC2012/x", tarfile.SYMTYPE, "../../../evil")], "links out"),
    "absolute symlink": ([member("VOCdevkit/x", tarfile.SYMTYPE, "/etc/passwd")], "links out"),
    "hard link": ([member("VOCdevkit/VOC2012/x", tarfile.LNKTYPE, "../evil")], "links out"),
    "absolute hard link": ([member("x", tarfile.LNKTYPE, "/etc/passwd")], "links out"),
    "device": ([member("VOCdevkit/VOC2012/null", tarfile.CHRTYPE)], "neither"),
    "block device": ([member("VOCdevkit/VOC2012/disk", tarfile.BLKTYPE)], "neither"),
    "pipe": ([member("VOCdevkit/VOC2012/pipe", tarfile.FIFOTYPE)], "neither"),
    "bomb": ([member("VOCdevkit/VOC2012/JPEGImages/z.jpg", size=9 << 30)], "8 GiB"),
    "bomb elsewhere": ([member("other", size=9 << 30)], "8 GiB"),
    "large file": ([member("VOCdevkit/VOC2012/JPEGImages/z.jpg", size=1 << 30)], "at once"),
    "large name": ([member("VOCdevkit/VOC2012/" + "a" * 300), member("x")], "File name too long"),
}  # fmt: skip


@pytest.mark.parametrize("kind", EVIL)
def test_evil_archives_of_voc(download, server, tmp_path, kind):
    more, words = EVIL[kind]
    server.files["/voc.tar"] = voc_tar(*more)
    refusal(download, words)
    devkit = tmp_path / "data/VOCdevkit"
    assert not (devkit / "VOC2012").exists()
    assert not list(tmp_path.rglob("*evil*")) and not pathlib.Path("/tmp/evil").exists()
    assert all(path.is_file() or path.is_dir() for path in devkit.rglob("*"))
    assert not any(path.is_symlink() for path in devkit.rglob("*"))


@pytest.mark.parametrize("kind", [k for k in EVIL if "large" not in k])
def test_evil_archives_of_sbd(download, server, kind):
    more, words = EVIL[kind]
    server.files["/sbd.tgz"] = sbd_tgz(*more)
    refusal(download, words)
    root = download(sbd="none")
    assert not (root / "SegmentationClassAug").exists()
    assert not (root / "ImageSets/Segmentation/train_aug.txt").exists()


def test_a_link_within_is_passed_over_and_told(download, server, caplog):
    link = member("VOCdevkit/VOC2012/JPEGImages/z.jpg", tarfile.SYMTYPE, "a.jpg")
    server.files["/voc.tar"] = voc_tar(link)
    names = {path.name for path in (download(sbd="none") / "JPEGImages").iterdir()}
    assert names == {f"{id_}.jpg" for id_ in "abcdefg"}
    assert "z.jpg is a link" in caplog.text


def test_too_many_files(download, monkeypatch):
    monkeypatch.setattr(download_voc, "MAX_FILES", 20)
    refusal(download, "more than 20 files")


def test_a_gzip_bomb_is_not_unpacked(download, server, monkeypatch):
    monkeypatch.setattr(download_voc, "MAX_BYTES", 10_000_000)
    zeros = {"benchmark_RELEASE/zeros": bytes(20_000_000)}
    server.files["/sbd.tgz"] = sbd_tgz(files=zeros)
    assert len(server.files["/sbd.tgz"]) < 1_000_000
    refusal(download, "unpacks to more")


def test_a_header_that_wants_the_memory(download, server):
    header = member("x", tarfile.XHDTYPE, size=1 << 30).tobuf(tarfile.GNU_FORMAT)
    server.files["/voc.tar"] = header + bytes(10240)
    refusal(download, "at once")


def test_a_file_of_negative_size(download, server):
    header = bytearray(member("x").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # −256 in base 256
    header[148:156] = b"        "
    header[148:156] = b"%06o\0 " % sum(header)
    server.files["/voc.tar"] = bytes(header) + bytes(10240)
    refusal(download, "cannot be unpacked")


DAMAGED = {
    "empty": b"",
    "text": b"no tar at all",
    "zeros": bytes(10240),
    "noise": NOISE,
    "gzipped noise": gzip.compress(NOISE),
    "gzipped nothing": gzip.compress(b""),
    "bzip2": b"BZh9" + NOISE,
    "cut gzip": gzip.compress(VOC_TAR)[:-3000],
    "cut in a header": VOC_TAR[: 3 * 512 + 300],
    "cut in a file": VOC_TAR[:200_000],
    "cut after a header": VOC_TAR[:512],
    "bad header": VOC_TAR[:1024] + b"?" * 512 + VOC_TAR[1536:],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_archives(download, server, tmp_path, kind):
    server.files["/voc.tar"] = DAMAGED[kind]
    refusal(download, "VOCtrainval_11-May-2012.tar")
    assert not (tmp_path / "data/VOCdevkit/VOC2012").exists()


def test_an_archive_of_something_else(download, server):
    server.files["/voc.tar"] = sbd_tgz()
    refusal(download, "JPEGImages")


def test_sbd_that_is_something_else(download, server):
    server.files["/sbd.tgz"] = voc_tar()
    refusal(download, "not SBD")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "GTcls"),
        (b"MATLAB 5.0" + NOISE, "GTcls"),
        (annotation("e")[:-100], "GTcls"),
        ({"other": 1}, "GTcls"),
        ({"GTcls": 1}, "GTcls"),
        ({"GTcls": {"Boundaries": 1}}, "Segmentation"),
        (annotation("e", Segmentation=np.full([3, 4], 21)), "0..20"),
        (annotation("e", Segmentation=np.full([3, 4], np.nan)), "0..20"),
        (annotation("e", Segmentation=np.zeros([3, 4, 3], np.uint8)), "0..20"),
        (annotation("e", Segmentation="text"), "no array"),
        (annotation("e", Segmentation=np.zeros([0, 0], np.uint8)), "0..20"),
        (annotation("e", Segmentation=np.array([["a", 1]], object)), "no array"),
    ],
)
def test_bad_annotations(download, server, data, words):
    if isinstance(data, dict):
        file = io.BytesIO()
        scipy.io.savemat(file, data)
        data = file.getvalue()
    server.files["/sbd.tgz"] = sbd_tgz(files={"benchmark_RELEASE/dataset/cls/e.mat": data})
    refusal(download, words, "cls/e.mat")
    assert not (download(sbd="none") / "SegmentationClassAug").exists()


def test_an_image_without_mask_or_picture(download, server):
    top = "benchmark_RELEASE/dataset"
    server.files["/sbd.tgz"] = sbd_tgz(files={f"{top}/train.txt": b"a z"})
    refusal(download, "1 of", "z", ".png")


def test_a_list_that_is_no_text(download, server):
    server.files["/sbd.tgz"] = sbd_tgz(files={"benchmark_RELEASE/dataset/val.txt": b"\xff\xfe\x00"})
    refusal(download, "val.txt", "not a list")


def test_the_official_archives_must_give_their_number(download, server, monkeypatch):
    settings = types.SimpleNamespace(**values(server, ""))
    monkeypatch.setattr(download_voc, "OFFICIAL", (settings.voc_md5, settings.sbd_md5))
    refusal(download, "expected 10582", "got 6")
    monkeypatch.setattr(download_voc, "TRAIN_AUG", 6)
    assert (download() / "SegmentationClassAug").exists()


def test_a_list_of_the_user_s_stays(download):
    root = download(sbd="none")
    own = root / "ImageSets/Segmentation/train_aug.txt"
    own.write_text("mine\n")
    refusal(download, str(own), "rename it")
    assert own.read_text() == "mine\n"


def test_a_root_that_is_no_devkit(download, tmp_path):
    refusal(download, "--voc_root", "JPEGImages", voc_root=str(tmp_path))


def test_a_file_in_the_folder_s_place(download, tmp_path):
    (tmp_path / "file").write_text("")
    refusal(download, "file", download_dir=str(tmp_path / "file"))
    refusal(download, "file", download_dir=str(tmp_path / "file/below"))


def test_a_full_disk(server, tmp_path):
    """A limit on a file's size stands in for a disk's; what is there is kept, and it goes on."""
    settings = values(server, tmp_path / "data")
    point = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))"
    status, text = end(start(settings, point))
    assert status == 1
    assert text.splitlines()[-1].startswith("error: ") and os.strerror(errno.EFBIG) in text
    assert "Traceback" not in text
    server.asked.clear()
    assert end(start(settings))[0] == 0
    assert server.asked[0][1].startswith("bytes=")


def test_the_command_line_ends_in_one_line(server, tmp_path):
    status, text = end(start(values(server, tmp_path / "data", voc_url=server.url("/none"))))
    errors = [line for line in text.splitlines() if line.strip()]
    assert status == 1 and len(errors) == 1 and errors[0].startswith("error: ")
    assert "404" in errors[0]
