"""PASCAL VOC 2012 and SBD from their servers → a devkit with `train_aug` and its masks.

python -m data_prep.download_voc --download_dir=DATA                    # → DATA/VOCdevkit/VOC2012
python -m data_prep.download_voc --download_dir=DATA --voc_root=VOC2012 --sbd=download

SBD (Hariharan et al., ICCV 2011) has masks for 11,355 pictures of VOC. They become
`SegmentationClassAug/ID.png` in the devkit, beside copies of VOC's own masks, which are finer, and
`ImageSets/Segmentation/train_aug.txt` names what the field trains on: (VOC train ∪ SBD train ∪
SBD val) − VOC val, 10,582 images.

Everything is written beside its goal and renamed when whole: killed at any instant and started
again, it goes on and ends with the same bytes. Only the hosts of the two URLs are ever asked.
"""

import contextlib
import gzip
import hashlib
import http.client
import os
import pathlib
import posixpath
import re
import shutil
import tarfile
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.classes import VOC, VOID
from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from aepsl_tf.files import alone, write_atomic
from aepsl_tf.progress import progress
from data_prep import mat5, sources

OFFICIAL = (config.DownloadVoc().voc_md5, config.DownloadVoc().sbd_md5)
TRAIN_AUG = 10_582
"""Images of train_aug that the two official archives give."""

MAX_BYTES = 8 << 30
"""An archive's size at most, packed and unpacked; VOC's has 2.0 GB."""
MAX_FILES = 200_000
"""Files and folders of an archive at most; VOC's has some 40,000."""
MAX_FILE_BYTES = 64 << 20
"""One file's size at most; it is held in memory. The archives' pictures have some .1 MB."""

_TIMEOUT = 60.0  # seconds without a byte
_CHUNK = 1 << 16


def run(settings):
    """Brings VOC 2012, SBD, or both to this machine; see `config.DownloadVoc`.

    Returns:
      The devkit's folder, for --voc_root of the other commands.

    Raises:
      InputError: no answer, a refusal or a short answer from a server, a wrong md5, an archive
        that is damaged, holds too much or leads out of its folder, no room on the disk.
    """
    root = pathlib.Path(settings.voc_root)
    sbd = settings.sbd == "download" or (settings.sbd == "auto" and not settings.voc_root)
    if settings.voc_root:
        _refuse_no_devkit(root, f"--voc_root={root}")
        if not sbd:
            logging.info("%s: nothing is downloaded; --sbd=download adds SBD's masks", root)
            return root
    if not settings.download_dir:
        raise InputError("--download_dir: name a folder for the archives and the devkit")
    folder = pathlib.Path(settings.download_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        message = f"another process is downloading to {folder}: wait for it or stop it"
        with alone(folder / ".lock", message):
            if not settings.voc_root:
                root = folder / "VOCdevkit" / "VOC2012"
                _add_voc(settings, folder, root)
            if sbd:
                _add_sbd(settings, folder, root)
    except OSError as error:  # a full disk, a folder that is a file, no right to write
        raise InputError(
            f"{error.filename or folder}: {error.strerror or error}: mend this and run it again; "
            "what is there is kept"
        ) from error
    logging.info("%s: ready for --voc_root", root)
    return root


def _beside(path):
    return path.with_name(path.name + ".partial")


# -------------------------------------------------------------------------------------- the devkit


def _masks(root):
    return root / sources.AUGMENTED


def _list(root, split):
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def _refuse_no_devkit(root, where):
    for path in (root / "JPEGImages", _list(root, "train"), _list(root, "val")):
        if not path.exists():
            raise InputError(
                f"{where}: expected a devkit of VOC 2012, which holds {path.relative_to(root)}"
            )


def _add_voc(settings, folder, root):
    """VOC's archive → the devkit `root`."""
    archive, partial = folder / "VOCtrainval_11-May-2012.tar", _beside(root)
    shutil.rmtree(partial, ignore_errors=True)
    if root.exists():
        _refuse_no_devkit(root, root)
        logging.info("%s: already there", root)
    else:
        _download(archive, "voc", settings.voc_url, settings.voc_md5)
        for name, data in _files(archive, "VOCdevkit/VOC2012"):
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        _refuse_no_devkit(partial, f"{archive}: VOCdevkit/VOC2012")
        os.replace(partial, root)
    if not settings.keep_archives:
        archive.unlink(missing_ok=True)


def _add_sbd(settings, folder, root):
    """SBD's archive → SegmentationClassAug and train_aug.txt of the devkit `root`.

    The archive is read in one pass and not unpacked: of its three folders one is needed.
    """
    archive, partial = folder / "benchmark.tgz", _beside(_masks(root))
    shutil.rmtree(partial, ignore_errors=True)
    if _masks(root).exists():
        logging.info("%s: already there", _masks(root))
    else:
        _download(archive, "sbd", settings.sbd_url, settings.sbd_md5)
        partial.mkdir()
        for own in (root / "SegmentationClass").glob("*.png"):
            shutil.copyfile(own, partial / own.name)
        lists = _convert_sbd(archive, root, partial)
        ids = (_read_ids(root, "train") | lists["train"] | lists["val"]) - _read_ids(root, "val")
        whole = not settings.voc_root and (settings.voc_md5, settings.sbd_md5) == OFFICIAL
        _refuse_incomplete(ids, root, partial, whole)
        _publish_list(_list(root, "train_aug"), "".join(f"{id_}\n" for id_ in sorted(ids)))
        os.replace(partial, _masks(root))
        logging.info("%s: %d images", _list(root, "train_aug"), len(ids))
    if not settings.keep_archives:
        archive.unlink(missing_ok=True)


def _convert_sbd(archive, root, partial):
    """Fills `partial` with masks that it lacks, and JPEGImages likewise. Returns SBD's lists."""
    lists, added = {}, 0
    for name, data in _files(archive, "benchmark_RELEASE/dataset"):
        parent, base = posixpath.split(name)
        stem, suffix = posixpath.splitext(base)
        if base.startswith("."):  # what a Mac adds to archives
            continue
        if name in ("train.txt", "val.txt"):
            lists[stem] = _ids(data, f"{archive}: {name}")
        elif (parent, suffix) == ("cls", ".mat"):
            path = partial / f"{stem}.png"
            if not path.exists():
                mask = mat_mask(data, f"{archive}: {name}")
                path.write_bytes(encoding.palette_png(mask, VOC.palette()))
        elif (parent, suffix) == ("img", ".jpg"):
            path = root / "JPEGImages" / f"{stem}.jpg"
            if not path.exists():  # not so with VOC 2012, which has all of SBD's pictures
                (partial / path.name).write_bytes(data)
                os.replace(partial / path.name, path)
                added += 1
    if lists.keys() != {"train", "val"}:
        raise InputError(f"{archive}: expected benchmark_RELEASE/dataset with train.txt and "
                         "val.txt: this is not SBD; give another --sbd_url")  # fmt: skip
    if added:
        logging.info("%s: %d pictures added that only SBD had", root / "JPEGImages", added)
    return lists


def mat_mask(data, where):
    """Class ids, uint8 `[H, W]`, of an SBD annotation: GTcls.Segmentation.

    Args:
      data: bytes of a MATLAB file.
      where: its name, for errors.
    """
    try:
        mask = mat5.read_field(data, "GTcls", "Segmentation")
    except ValueError as error:
        raise InputError(f"{where}: expected an annotation of SBD, which holds GTcls.Segmentation "
                         f"({error}): give another --sbd_url") from error  # fmt: skip
    known = [*range(len(VOC) + 1), VOID]
    if mask.ndim != 2 or not mask.size or not np.isin(mask, known).all():
        raise InputError(
            f"{where}: GTcls.Segmentation: expected a picture of class ids 0..{len(VOC)}: "
            "give another --sbd_url"
        )
    return mask.astype(np.uint8)


def _ids(data, where):
    try:
        return set(data.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not a list of image ids ({error})") from error


def _read_ids(root, split):
    return _ids(_list(root, split).read_bytes(), _list(root, split))


def _refuse_incomplete(ids, root, masks, whole):
    for folder, suffix in ((masks, ".png"), (root / "JPEGImages", ".jpg")):
        missing = sorted(id_ for id_ in ids if not (folder / (id_ + suffix)).exists())
        if missing:
            raise InputError(
                f"train_aug: {len(missing)} of {len(ids)} images have no {suffix} in "
                f"{root.name} or SBD, the first: {missing[0]}: use whole archives"
            )
    if len(ids) != TRAIN_AUG:
        message = f"train_aug: expected {TRAIN_AUG} images from VOC 2012 and SBD, got {len(ids)}"
        if whole:
            raise InputError(f"{message}: remove {root} and run it again")
        logging.warning("%s", message)


def _publish_list(path, text):
    if not path.exists():
        write_atomic(path, text)
    elif path.read_bytes() != text.encode():
        raise InputError(f"{path} is there and names other images: rename it, and run it again")


# ------------------------------------------------------------------------------------- the archives


class _Bounded:
    """What a tar reader needs of a file, within `MAX_BYTES`, and never much at once.

    Header fields decide how far the reader seeks and, for long names, how much it reads.
    """

    def __init__(self, file):
        self._file, self.tell, self.last = file, file.tell, b""

    def read(self, size):
        if not 0 <= size <= MAX_FILE_BYTES:
            raise InputError(f"it asks for {size} bytes at once")
        self.last = self._file.read(size)
        return self.last

    def seek(self, position):
        if not 0 <= position <= MAX_BYTES:
            raise InputError(f"it unpacks to more than {MAX_BYTES >> 30} GiB")
        self._file.seek(position)


def _files(path, top):
    """Yields (name, bytes) of each file below the folder `top` of a tar archive, gzipped or not.

    Every member is checked, whether it lies there or not. Links are never made.

    Raises:
      InputError: a member leads out of the folder, is a device or too large; there are too many;
        the archive is damaged, cut or no tar.
    """
    with (
        open(path, "rb") as packed,
        progress(path.stat().st_size, f"unpack {path.name}", "B") as bar,
    ):
        zipped = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        file = _Bounded(gzip.GzipFile(fileobj=packed) if zipped else packed)
        try:
            for number, member in enumerate(tarfile.TarFile(fileobj=file), 1):
                _refuse_unsafe(member, number)
                name = posixpath.normpath(member.name)
                if member.isreg() and name.startswith(f"{top}/"):
                    file.seek(member.offset_data)
                    data = file.read(member.size)
                    if len(data) < member.size:
                        raise InputError("it ends within a file")
                    yield name.removeprefix(f"{top}/"), data
                elif not (member.isreg() or member.isdir()):
                    logging.warning("%s: %s is a link, passed over", path, name)
                bar.update(packed.tell() - bar.n)
            if any(file.last):  # the reader takes a bad header for the end, which is zeros
                raise InputError("it is damaged or cut")
        except Exception as error:  # tarfile and gzip raise a dozen kinds on damaged files
            raise InputError(
                f"{path}: cannot be unpacked ({_line(error)}): use another archive "
                "(--voc_url, --sbd_url)"
            ) from error


def _refuse_unsafe(member, number):
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        raise InputError(f"{member.name!r} leads out of the folder")
    if member.issym() or member.islnk():
        start = posixpath.dirname(member.name) if member.issym() else ""
        target = posixpath.normpath(posixpath.join(start, member.linkname))
        if target.split("/")[0] in ("", ".."):
            raise InputError(f"{member.name!r} links out of the folder")
    elif not (member.isreg() or member.isdir()) or member.issparse():
        raise InputError(f"{member.name!r} is neither a file nor a folder")
    if not 0 <= member.size <= MAX_BYTES - member.offset_data:
        raise InputError(f"it unpacks to more than {MAX_BYTES >> 30} GiB")
    if number > MAX_FILES:
        raise InputError(f"it holds more than {MAX_FILES} files")


# ------------------------------------------------------------------------------------- the download


def _download(path, source, url, md5):
    """Brings an archive to `path`, unless it is there, going on from what an earlier try left.

    Args:
      path: the file.
      source: voc or sbd, the name of its flags.
      url, md5: where it is, and what it must hold.
    """
    if not re.fullmatch("[0-9a-f]{32}", md5):
        raise InputError(f"--{source}_md5={md5}: expected 32 digits 0-9a-f")
    if path.exists():
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, _md5).hexdigest()
        if found != md5:
            raise InputError(f"{path}: its md5 is {found}, not {md5}: remove it to download it "
                             f"again, or give its --{source}_md5")  # fmt: skip
        return
    partial = _beside(path)
    with open(partial, "a+b") as file:
        file.seek(0)
        digest = hashlib.file_digest(file, _md5)
        if digest.hexdigest() != md5:
            digest = _receive(file, digest, path.name, source, url)
    if digest.hexdigest() != md5:
        partial.unlink()
        raise InputError(
            f"{url}: its md5 is {digest.hexdigest()}, not {md5}: it is another file or was damaged "
            f"on its way; run it again to start over, or mend --{source}_url and --{source}_md5"
        )
    os.replace(partial, path)


def _receive(file, digest, name, source, url):
    """Appends to `file` what it lacks of the archive. Returns the digest of all its bytes."""
    have = file.tell()
    with _network(source, url):
        response, start = _open(url, have)
    if start < have:  # this server sends all or nothing
        file.truncate(0)
        digest, have = _md5(), 0
    total = None if response.length is None else have + response.length
    with response, progress(total, name, "B", done=have) as bar:
        while True:
            with _network(source, url):
                chunk = response.read(_CHUNK)
            if not chunk:
                break
            have += len(chunk)
            if max(have, total or 0) > MAX_BYTES:
                raise InputError(f"{url}: more than {MAX_BYTES >> 30} GiB: mend --{source}_url")
            file.write(chunk)
            digest.update(chunk)
            bar.update(len(chunk))
    if total is not None and have < total:
        raise InputError(
            f"{url}: the connection ended after {have} of {total} bytes: run it again to go on"
        )
    return digest


def _open(url, have):
    """(answer, the byte that it starts at): `have`, or 0 where the server cannot go on there."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: expected an address that starts with http:// or https://")
    opener = urllib.request.build_opener(_SameSite)

    def ask(**headers):
        request = urllib.request.Request(url, headers={"User-Agent": "aepsl-tf", **headers})
        return opener.open(request, timeout=_TIMEOUT)

    if have:
        try:
            response = ask(Range=f"bytes={have}-")
        except urllib.error.HTTPError as error:
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            error.close()
        else:
            if response.status == http.client.OK:
                return response, 0
            if response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                return response, have
            response.close()
    return ask(), 0


class _SameSite(urllib.request.HTTPRedirectHandler):
    """Follows a server to itself and its sisters (www. → www2.), nowhere else."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _sisters(req.full_url, newurl):
            fp.close()
            raise InputError(
                f"{req.full_url}: the server points at another site, {newurl}: if you trust it, "
                "give that address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _sisters(one, other):
    """Whether the hosts of two addresses are one, or differ in the first of four names alone."""
    one, other = (urllib.parse.urlsplit(url).hostname or "" for url in (one, other))
    above = one.partition(".")[2]
    return one == other or (
        above == other.partition(".")[2] and above.count(".") >= 2 and not above[-1].isdigit()
    )


@contextlib.contextmanager
def _network(source, url):
    """Turns what can go wrong between two machines into one line."""
    try:
        yield
    except InputError:
        raise
    except urllib.error.HTTPError as error:
        error.close()  # it is the server's answer too
        raise InputError(
            f"{url}: the server answers {error.code} {_line(error.reason)}: try later, or mend "
            f"--{source}_url"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise InputError(
            f"{url}: {_line(getattr(error, 'reason', error))}: run it again to go on, or mend "
            f"--{source}_url"
        ) from error


def _md5():
    return hashlib.md5(usedforsecurity=False)


def _line(error):
    return " ".join(str(error).split()) or type(error).__name__


def main(argv):
    del argv
    run(config_flags.read(config.DownloadVoc))


if __name__ == "__main__":
    config_flags.run_app(main, config.DownloadVoc)
