"""Every reader of the project, with a good input and what may be said of a damaged one.

A door is asked to use a damaged file. It may refuse it by one line, or use it; if it uses it,
`judge` says whether that was right.
"""

import dataclasses
import io
import json
import math
import pathlib
import re
import types
from collections.abc import Callable

import cv2
import mutations
import numpy as np
import tensorflow as tf
from conftest import disk, jpeg, write_mask, write_onnx
from PIL import Image

from aepsl_tf import config, run_dir
from aepsl_tf.classes import VOID, ClassSet
from aepsl_tf.data import encoding, lists, records, transforms
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics
from aepsl_tf.files import read_json, sealed, to_json, write_atomic
from aepsl_tf.models import model_dir
from aepsl_tf.models.segmenter import Segmenter
from aepsl_tf.training import strategies
from data_prep import masks, tags, write_voc
from data_prep.saliency import drfi, methods

MAX_PIXELS = 2_000_000
CLASSES = ClassSet(("cat", "dog", "tv/monitor"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)), (False,) * 3)


@dataclasses.dataclass
class Door:
    """One way in.

    Attributes:
      name: of the table's row.
      goods: good inputs, bytes.
      mutate: ways to damage one, of `mutations`.
      use: `use(data) -> result` or an `InputError`.
      judge: `judge(result, good result, data, mutation's name)` → what is wrong with having used
        it, or None.
      share: of all cases, relative to the others'.
    """

    name: str
    goods: list
    mutate: tuple
    use: Callable
    judge: Callable
    share: int = 10


def same(one, other):
    """Whether two results are the same."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return type(one) is type(other) and one.shape == other.shape and np.array_equal(one, other)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one == other


def only_same(result, good, data, how):
    """For files that this project writes and seals: damage must be noticed.

    Without a seal they are an older version's, of which the form alone can be checked.
    """
    if how == "of_json" and b'"seal"' not in data:
        return None
    return None if same(result, good) else "damage is not noticed"


def png_of(values, mode=None, **options):
    file = io.BytesIO()
    picture = Image.fromarray(values) if mode is None else Image.fromarray(values).convert(mode)
    picture.save(file, "PNG", **options)
    return file.getvalue()


def saved(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


# ---------------------------------------------------------------------------------- pictures, masks


def pictures(rng):
    pixels = rng.integers(0, 256, (18, 24, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    pngs = [png_of(pixels), png_of(pixels, "L"), png_of(pixels, "P"), png_of(pixels, "RGBA"),
            png_of(pixels, "1"), png_of(pixels, "LA")]  # fmt: skip
    others = [jpeg(pixels), saved(image, "JPEG", progressive=True),
              saved(image.convert("CMYK"), "JPEG"), saved(image, "JPEG", exif=exif),
              saved(image, "WEBP"), saved(image, "BMP"), saved(image, "TIFF")]  # fmt: skip

    def use(data):
        standard = encoding.standard_image(data, "a", MAX_PIXELS)
        seen = transforms.decode_image(tf.constant(standard.encoded)).numpy()
        if seen.shape != (standard.height, standard.width, 3):
            raise AssertionError(f"TensorFlow decodes {seen.shape}")
        return seen

    def judge(result, good, data, how):
        # Other formats have no checksums, and chunks whose checksums were made anew say so.
        png = data.startswith(b"\x89PNG") and how != "of_png"
        return "a damaged PNG is used with other pixels" if png and not same(result, good) else None

    yield Door("picture: PNG", pngs, (mutations.of_bytes, mutations.of_png), use, judge, 25)
    yield Door("picture: JPEG, WebP, …", others, (mutations.of_bytes,), use, judge, 15)


def mask_doors(rng, folder):
    ids = rng.integers(0, 4, (18, 24), dtype=np.uint8)
    ids[3] = VOID
    palette = Image.fromarray(ids, "P")
    palette.putpalette(list(range(256)) * 3)
    colors = np.zeros((18, 24, 3), np.uint8)
    for id_, color in enumerate(CLASSES.colors, start=1):
        colors[ids == id_] = color
    goods = [saved(palette, "PNG"), png_of(ids), png_of(colors)]
    picture, path = folder / "a.jpg", folder / "masks" / "a.png"
    path.parent.mkdir()
    picture.write_bytes(jpeg(np.zeros((18, 24, 3), np.uint8)))

    def use(data):
        path.write_bytes(data)
        return masks.Masks.of(path.parent, CLASSES, MAX_PIXELS).read(path, picture)

    def judge(result, good, data, how):
        if result.shape != (18, 24) or not {*np.unique(result)} <= {0, 1, 2, 3, 255}:
            return "a mask that is none is used"
        wrong = how != "of_png" and not same(result, good)
        return "a damaged mask is used with other ids" if wrong else None

    yield Door("mask", goods, (mutations.of_bytes, mutations.of_png), use, judge, 25)
    labelmap = b"# label:color:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:4,5,6::\n"

    def use_labelmap(data):
        path.write_bytes(goods[1])
        (path.parent / "labelmap.txt").write_bytes(data)
        try:
            return masks.Masks.of(path.parent, CLASSES, MAX_PIXELS).colors
        finally:
            (path.parent / "labelmap.txt").unlink()

    def judge_labelmap(result, good, data, how):
        colors = [c for named in result.values() for c in named]
        fine = all(len(c) == 3 and all(0 <= x < 256 for x in c) for c in colors)
        return None if fine else "a colour that is none"

    yield Door("labelmap.txt", [labelmap], (mutations.of_text,), use_labelmap, judge_labelmap, 4)


# -------------------------------------------------------------------------------------------- text


def text_doors(folder):
    ids = [f"img {i}" for i in range(4)]
    path = folder / "text"

    def at(data):
        path.write_bytes(data)
        return path

    lines = [
        b"img 0\nimg 1\nimg 2\nimg 3\n",
        b"a -1\nb 1\nc  0\n",
        b"/JPEGImages/a.jpg /SegmentationClassAug/a.png\n/JPEGImages/b.jpg /M/b.png\n",
    ]

    def judge_list(result, good, data, how):
        for id_ in result:
            parts = pathlib.PurePosixPath(id_).parts
            if ".." in parts or id_.startswith(("/", "./")) or len(id_.encode()) > 1000:
                return "an id that is a path out of its folder"
            if max(len(part.encode()) for part in parts) > 250 or re.search(
                r"[\0-\x1f\x7f\ufeff]", id_
            ):
                return "an id that is no file's name"
        return None if len(set(result)) == len(result) else "an image twice"

    yield Door(
        "list of images", lines, (mutations.of_text,), lambda d: lists.read(at(d)), judge_list
    )
    table = "image,labels\n" + "".join(f"{i},{'cat' if n % 2 else 'dog;cat'}\n" for n, i in
                                       enumerate(ids))  # fmt: skip

    def judge_csv(result, good, data, how):
        if result.keys() != set(ids) or any(not set(v) <= {1, 2, 3} for v in result.values()):
            return "tags that are none"
        text = data.decode("utf-8", "replace").lstrip("﻿")
        if data[:2] in (b"\xff\xfe", b"\xfe\xff") or "\0" in text or '"' in text or "\t" in text:
            return None
        rows = [row for row in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
                if row.strip().strip(" ,;")]  # fmt: skip
        by = max(",;", key=rows[0].count)
        wrong = any(row.count(by) != rows[0].count(by) for row in rows)
        return "a row of other columns than the header is used" if wrong else None

    goods = [table.encode(), table.replace(";", " ").replace(",", "\t").encode()]
    yield Door("CSV of tags", goods, (mutations.of_text,),
               lambda d: tags.from_csv(str(at(d)), ids, CLASSES), judge_csv)  # fmt: skip
    xml = (b'<?xml version="1.0" encoding="utf-8"?>\n<annotation>\n <folder>VOC2012</folder>\n'
           b" <object>\n  <name>cat</name>\n </object>\n <object><name>dog</name></object>\n"
           b"</annotation>\n")  # fmt: skip

    def judge_xml(result, good, data, how):
        return None if set(result) <= {1, 2, 3} else "tags that are none"

    yield Door("XML annotation", [xml, xml.replace(b"utf-8", b"gb2312")], (mutations.of_text,),
               lambda d: tags.from_xml(at(d), CLASSES), judge_xml)  # fmt: skip

    def judge_classes(result, good, data, how):
        for name, color, indoor in zip(result.names, result.colors, result.indoor, strict=True):
            if not name or name.strip() != name or name.casefold() in ("background", "void"):
                return f"a class named {name!r}"
            if len(color) != 3 or any(type(x) is not int or not 0 <= x < 256 for x in color):
                return f"a colour {color}"
            if not isinstance(indoor, bool):
                return f"indoor is {indoor}"
        return None if len({*result.names}) == len(result.names) else "a class twice"

    rows = to_json(CLASSES.to_json()).encode()
    yield Door("classes", [rows, b"cat\ndog\n"], (mutations.of_json, mutations.of_text),
               lambda d: ClassSet.load(at(d)), judge_classes)  # fmt: skip


# ------------------------------------------------------------------------------- a run's own files


def run_doors(folder):
    root = folder / "run"
    settings = config.MineRegions()

    def make(text="made"):
        run = run_dir.RunDir(root)
        work = lambda partial: (partial / "file").write_text(text) and None  # noqa: E731
        for key, inputs in (("a", []), ("b", ["a"])):
            run.phase(key, settings, inputs, root / key, work)
        return run

    make()
    manifest = (root / "manifest.json").read_bytes()

    def use_manifest(data):
        (root / "manifest.json").write_bytes(data)
        run = run_dir.RunDir(root)
        found = run.manifest()
        for key in found:
            run.entry(key)
        run.need("a", "test")
        make()
        return found

    yield Door("manifest.json", [manifest], (mutations.of_json,), use_manifest, only_same)

    def use_output(data):
        (root / "manifest.json").write_bytes(manifest)
        (root / "a" / "file").write_bytes(data)
        run_dir.RunDir(root).need("a", "test")
        return data

    yield Door("a phase's output", [b"made"], (mutations.of_bytes,), use_output, only_same, 4)
    begun_root = folder / "begun"

    def begin():
        def killed(partial):
            (partial / "half").write_text("half")
            raise KeyboardInterrupt

        run = run_dir.RunDir(begun_root)
        try:
            run.phase("a", settings, [], begun_root / "a", killed)
        except KeyboardInterrupt:
            return (begun_root / "a.partial.json").read_bytes()

    begun = begin()

    def use_begun(data):
        (begun_root / "a.partial").mkdir(exist_ok=True)
        (begun_root / "a.partial" / "half").write_text("half")
        (begun_root / "a.partial.json").write_bytes(data)
        (begun_root / "manifest.json").unlink(missing_ok=True)
        seen = []
        run = run_dir.RunDir(begun_root)
        run.phase("a", settings, [], begun_root / "a", lambda p: seen.extend(sorted(p.iterdir())))
        return [path.name for path in seen]

    yield Door("record of a begun phase", [begun], (mutations.of_json,), use_begun, only_same, 5)
    confusion = metrics.Confusion(3)
    confusion.add(np.uint8([[0, 1], [2, 1]]), np.uint8([[0, 1], [1, 255]]))
    results = sealed({"psl": confusion.results(["background", "cat", "dog"])}).encode()
    path = folder / "eval.json"

    def use_results(data):
        path.write_bytes(data)
        return read_json(path, {str: metrics.RESULTS}, "evaluate again")

    yield Door("evaluation's JSON", [results], (mutations.of_json,), use_results, only_same, 5)


def family_doors(rng, folder):
    root = folder / "families"
    names = [f"i{n}" for n in range(4)]
    pixels = rng.integers(0, 256, (4, 9, 12, 3), dtype=np.uint8)
    rows = {
        "images": [
            {"image/id": n, "image/encoded": encoding.rgb_png(p), "image/converted_from": "",
             "image/height": 9, "image/width": 12, "image/pixel_sum": [1, 2, 3],
             "image/labels": [1]} for n, p in zip(names, pixels, strict=True)],
        "masks": [{"image/id": n, "mask/png": encoding.grey_png(p[..., 0] % 4)}
                  for n, p in zip(names, pixels, strict=True)],
    }  # fmt: skip
    for name, of_all in rows.items():
        (root / name).mkdir(parents=True)
        records.write_family(root / name, name, [2, 2], lambda s, r=of_all: r[2 * s : 2 * s + 2],
                             facts={"mean_pixel": [1.0, 2.0, 3.0]})  # fmt: skip

    def reading(path):
        whole = path.read_bytes()

        def use(data):
            path.write_bytes(data)
            try:
                family = records.Family(path.parent)
                found = list(family.read())
                return [found, [family.at(i) for i in range(4)], family.facts]
            finally:
                path.write_bytes(whole)

        return [whole], use

    shard = root / "images" / records.shard_name("images", 1, 2)
    other = (root / "masks" / records.shard_name("masks", 1, 2)).read_bytes()

    def with_others(data, rng, others=()):
        return mutations.of_bytes(data, rng, [*others, other])

    with_others.__name__ = "of_bytes"
    for name, path, mutate, share in (
        ("records: a shard", shard, with_others, 20),
        ("records: an index", shard.with_suffix(".index"), mutations.of_bytes, 5),
        ("records: family.json", root / "images" / "family.json", mutations.of_json, 10),
    ):
        if not path.exists():
            path = next(path.parent.glob("*.index"))
        goods, use = reading(path)
        yield Door(name, goods, (mutate,), use, only_same, share)


def model_doors(folder):
    settings = config.TrainSegmenter(
        backbone="vgg16_small", weights="none", input_size=17, fc_channels=4,
        freeze_through="pool5a", input="warp",
    )  # fmt: skip
    model, root = Segmenter(settings, 2), folder / "model"
    root.mkdir()
    model_dir.save(model, [], root)

    path = root / "tuned.weights.h5"
    weights = path.read_bytes()

    def put(data):
        path.unlink()  # HDF5 goes on with what it knows of a file that it has failed to read
        path.write_bytes(data)

    def use_weights(data):
        put(data)
        try:
            model_dir.load_weights(model, root)
            return [w.numpy() for w in model.weights]
        finally:
            put(weights)

    def judge(result, good, data, how):
        finite = all(np.isfinite(w).all() for w in result)
        return None if finite else "weights that are not finite are loaded"

    yield Door("weights", [weights], (mutations.of_bytes,), use_weights, judge, 10)
    whole = (root / "settings.json").read_bytes()

    def use_settings(data):
        (root / "settings.json").write_bytes(data)
        try:
            return model_dir.load(root).config.identity()
        finally:
            (root / "settings.json").write_bytes(whole)

    yield Door("a model's settings.json", [whole], (mutations.of_json,), use_settings, only_same, 5)


# ----------------------------------------------------------------------------------------- saliency


def saliency_doors(rng, folder):
    image = np.ascontiguousarray(disk()[0][::4, ::4])
    path, small = folder / "model", None

    def in_range(result, good, data, how):
        fine = np.isfinite(result).all() and result.min() >= 0 and result.max() <= 1
        return None if fine and result.dtype == np.float32 else "a map that is none"

    with np.load(drfi.MODEL) as file:
        small = dict(file)
    first = small["roots"][:2]
    nodes = int(small["roots"][2])
    arrays = {k: v[:nodes] if k in ("child", "feature", "threshold", "value") else v
              for k, v in small.items()} | {"roots": first}  # fmt: skip
    packed, plain = io.BytesIO(), io.BytesIO()
    np.savez_compressed(packed, **arrays)
    np.savez(plain, **arrays)
    rows = rng.random((5, len(drfi.descriptors.NAMES)), dtype=np.float32)

    def use_drfi(data):
        path.write_bytes(data)
        model = drfi.Drfi.load(path)
        return np.append(model.forest.predict(rows), model.weights)

    def judge_drfi(result, good, data, how):
        return None if np.isfinite(result).all() else "a forest that answers no number"

    yield Door("DRFI model", [packed.getvalue(), plain.getvalue()], (mutations.of_bytes,), use_drfi,
               judge_drfi, 10)  # fmt: skip
    onnx = pathlib.Path(write_onnx(folder / "n.onnx", [1, 3, 24, 40])).read_bytes()

    def use_onnx(data):
        path.write_bytes(data)
        return methods.OnnxSaliency(str(path))(image)

    yield Door("ONNX network", [onnx], (mutations.of_bytes,), use_onnx, in_range, 10)
    values = rng.random((9, 12))
    npy = io.BytesIO()
    np.save(npy, values)
    goods = {".png": [png_of((values * 255).astype(np.uint8)),
                      cv2.imencode(".png", (values * 65535).astype(np.uint16))[1].tobytes()],
             ".jpg": [jpeg((values * 255).astype(np.uint8))], ".npy": [npy.getvalue()]}  # fmt: skip
    maps = folder / "maps"
    maps.mkdir()

    def using(suffix):
        def use(data):
            (maps / f"m{suffix}").write_bytes(data)
            try:
                return methods.FolderSaliency(str(maps)).map_for("m", 9, 12)
            finally:
                (maps / f"m{suffix}").unlink()

        return use

    def judge_png(result, good, data, how):
        wrong = how != "of_png" and not same(result, good) and data.startswith(b"\x89PNG")
        return "a damaged map is used" if wrong else in_range(result, good, data, how)

    yield Door("map: PNG", goods[".png"], (mutations.of_bytes, mutations.of_png), using(".png"),
               judge_png, 10)  # fmt: skip
    yield Door("map: JPEG", goods[".jpg"], (mutations.of_bytes,), using(".jpg"), in_range, 5)
    yield Door("map: npy", goods[".npy"], (mutations.of_bytes, npy_header), using(".npy"), in_range)


def npy_header(data, rng, others=()):
    """Another header of the same length."""
    kind = rng.choice(["<f8", "|u1", "<f4", "|O", "<U3", "|b1", ">f8", "<c16", "<f2", "V8"])
    shapes = ["(9, 12), ", "(12, 9), ", "(108,), ", "(10**9, 10**9), ", "(-9, -12), ",
              "(True, 108), ", "(9, 12", "(" * 60, "(0, 5), ", "(9.0, 12), "]  # fmt: skip
    shape = rng.choice(shapes)
    order = rng.choice(["False", "True", "None", "1"])
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}}}".ljust(117) + "\n"
    return data[:10] + header.encode() + data[128:], f"header {header.strip()}"


# ----------------------------------------------------------------------------------------- settings


_TEXTS = ["", " ", "x", "0", "1", "2", "-1", "1.5", "nan", "inf", "-inf", "1e400", "1e-400", "..",
          "../x", "/x", "a/b", ".x", "\0", "a\nb", "é", "x" * 300, "6,6", "6,12", "0,1", "a,b",
          "none", "auto", "true", "999999999999999999999", "255", "256", "0.5", ","]  # fmt: skip
_SHARES = {"threshold", "background_threshold", "indoor_background_threshold", "p", "dropout",
           "momentum", "val_share"}  # fmt: skip
_NAMES = {"split", "train_split", "val_split", "model", "name", "masks", "start_model",
          "relabelled"}  # fmt: skip


def setting_door():
    from aepsl_tf import config_flags

    fields = [(cls, field) for cls in config_flags.config_classes()
              for field in dataclasses.fields(cls)]  # fmt: skip

    def mutate(data, rng, others=()):
        cls, field = rng.choice(fields)
        text = rng.choice(_TEXTS)
        return json.dumps([cls.__name__, field.name, text]).encode(), text

    mutate.__name__ = "a value"

    def use(data):
        cls, name, text = json.loads(data)
        cls = getattr(config, cls)
        kind = cls.__dataclass_fields__[name].type
        value = text
        if kind in (int, float):
            try:
                value = kind(text)
            except (ValueError, OverflowError):
                value = text  # as a flag it is refused, as a saved setting it may come so
        return getattr(cls(**{name: value}), name)

    def judge(result, good, data, how):
        _, name, _ = json.loads(data)
        if isinstance(result, float) and not math.isfinite(result):
            return f"--{name}={result}"
        if name in _SHARES and isinstance(result, (int, float)) and not 0 <= result <= 1:
            return f"--{name}={result}"
        if name in ("learning_rate", "epochs", "global_batch", "shards") and result <= 0:
            return f"--{name}={result}"
        if name.endswith("rate") and isinstance(result, (int, float)) and result < 0:
            return f"--{name}={result}"
        if name in _NAMES and isinstance(result, str) and re.search(r"[/\\\0\n]|^\.", result):
            return f"--{name}={result!r}"
        if name == "lr_drop_epochs" and result:
            drops = [int(part) for part in result.split(",") if part.strip()]
            if drops != sorted({*drops}) or min(drops, default=1) < 1:
                return f"--{name}={result!r}"
        return None

    return Door("settings", [b'["Evaluate", "p", "0.1"]'], (mutate,), use, judge, 20)


def tf_config_door():
    good = json.dumps(
        {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}
    )

    def use(data):
        text = data.decode("latin-1")
        if wrong := strategies._wrong_in(text):
            raise InputError(wrong)
        return json.loads(text)

    def judge(result, good, data, how):
        cluster, task = result["cluster"], result["task"]
        hosts = [h for kind in cluster.values() for h in kind]
        fine = (
            {*cluster} <= {"chief", "worker"} and len(cluster.get("chief", [])) <= 1
            and all(type(kind) is list for kind in cluster.values())
            and all(re.fullmatch(r"\S+:\d+", h) for h in hosts) and len({*hosts}) == len(hosts)
            and type(task["index"]) is int and 0 <= task["index"] < len(cluster[task["type"]])
        )  # fmt: skip
        return None if fine else "a cluster that is none"

    return Door("TF_CONFIG", [good.encode()], (mutations.of_json,), use, judge, 5)


# ------------------------------------------------------------------------------------ whole devkits


def devkit_door(rng, folder):
    """Any file of a small devkit damaged, written whole by write_voc, read as training does."""
    root = folder / "voc"
    for below in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "Annotations"):
        (root / below).mkdir(parents=True)
    for id_ in "ab":
        pixels = rng.integers(0, 256, (18, 24, 3), dtype=np.uint8)
        (root / f"JPEGImages/{id_}.jpg").write_bytes(jpeg(pixels))
        write_mask(root, id_, (pixels[..., 0] % 3).astype(np.uint8))
        (root / f"Annotations/{id_}.xml").write_text(
            "<annotation><object><name>cat</name></object></annotation>"
        )
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    write_atomic(root / "classes.json", to_json(CLASSES.to_json()[:2]))
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    goods = {str(p): (root / p).read_bytes() for p in files}

    def mutate(data, rng, others=()):
        name = rng.choice(sorted(goods))
        of = {".txt": mutations.of_text, ".json": mutations.of_json, ".xml": mutations.of_text}
        damaged, what = of.get(pathlib.Path(name).suffix, mutations.of_bytes)(goods[name], rng)
        return name.encode() + b"\n" + damaged, f"{name}: {what}"

    mutate.__name__ = "a file"
    number = iter(range(10**9))

    def use(data):
        name, _, damaged = data.partition(b"\n")
        name = name.decode()
        whole = goods[name]
        (root / name).write_bytes(damaged)
        try:
            run = run_dir.RunDir(folder / f"out_{next(number)}")
            tags_from = "xml" if name.endswith(".xml") else "auto"
            settings = config.WriteVoc(voc_root=str(root), shards=1, tags_from=tags_from,
                                       max_pixels=MAX_PIXELS)  # fmt: skip
            write_voc.run(settings, run, 1)
            rows = list(records.Family(run.family("train", "images")).read())
            for row in rows:
                seen = transforms.decode_image(tf.constant(row["image/encoded"])).numpy()
                if seen.shape != (row["image/height"], row["image/width"], 3):
                    raise AssertionError(f"TensorFlow decodes {seen.shape}")
            return [types.SimpleNamespace(**{k.partition("/")[2]: v for k, v in row.items()})
                    for row in rows]  # fmt: skip
        finally:
            (root / name).write_bytes(whole)

    def judge(result, good, data, how):
        return None if all(set(row.labels) <= {1, 2} for row in result) else "tags that are none"

    return Door("a devkit, written", [b"classes.json\n" + goods["classes.json"]], (mutate,), use,
                judge, 10)  # fmt: skip


def doors(folder):
    """Every door, with files below an empty folder."""
    rng = np.random.default_rng(0)
    below = {name: folder / name for name in ("masks", "text", "runs", "families", "models",
                                              "saliency", "devkit")}  # fmt: skip
    for path in below.values():
        path.mkdir()
    return [
        *pictures(rng), *mask_doors(rng, below["masks"]), *text_doors(below["text"]),
        *run_doors(below["runs"]), *family_doors(rng, below["families"]),
        *model_doors(below["models"]), *saliency_doors(rng, below["saliency"]),
        setting_door(), tf_config_door(), devkit_door(rng, below["devkit"]),
    ]  # fmt: skip
