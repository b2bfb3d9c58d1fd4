"""Every setting of every phase: frozen dataclasses, one per phase, defaults as in the paper.

A field knows its help text, its unit, its choices, and where the paper speaks of it; the command
line (`config_flags`) and the manifest of a run are made from that. Nothing here reads a flag.
A field that two phases share has one name, so one flagfile serves a whole run.
"""

import contextlib
import dataclasses
import itertools
import math
import operator

from aepsl_tf.errors import InputError


def setting(
    default, text, *, unit="", paper="", choices=(), low=None, high=None, above=None, below=None,
    words=(), kind=None, identity=True, content=None, auto=(),
):  # fmt: skip
    """A dataclass field with its help, unit, source in the paper, and allowed values.

    A number is at least `low` and at most `high`, or more than `above` and less than `below`.
    `words` are texts that may stand in the place of a number. `kind` tells what a text is: "name"
    (of a file or folder of the run), "name?" (or nothing), "epochs" or "scales" (numbers by
    commas).

    `identity=False` marks a field that cannot change a byte of what the phase makes. `content`
    marks one that names a file or a folder: what that holds counts, not its name; its value lists
    the words that may stand in the place of a file. `auto` are the values that the word auto may
    stand for: one is chosen where the phase begins, recorded in its place, and kept.

    The default of a field that is added later must mean what was done before, because that is how
    runs of older versions are read.
    """
    metadata = dict(
        help=text, unit=unit, paper=paper, choices=tuple(choices), low=low, high=high, above=above,
        below=below, words=tuple(words), kind=kind, identity=identity, content=content,
        auto=tuple(auto),
    )  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all settings: checks each value once, for flags, notebooks and saved ones alike."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["words"]:  # a flag that may hold words is a text
                value = _number(field, value)
                object.__setattr__(self, field.name, value)
            if wanted := _expected(field, value):
                raise InputError(f"--{field.name}={_shown(value)}: expected {wanted}")

    def identity(self):
        """The fields that shape what the phase makes, but those that name files."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if f.metadata["identity"] and f.metadata["content"] is None}  # fmt: skip

    def unsettled(self):
        """Field → the values it may get, where it is auto and gets one when the phase begins."""
        return {f.name: f.metadata["auto"] for f in dataclasses.fields(self)
                if f.metadata["auto"] and getattr(self, f.name) == "auto"}  # fmt: skip

    def settled(self, recorded):
        """These settings with the values that a manifest has for `unsettled` fields."""
        return dataclasses.replace(self, **{name: recorded[name] for name in self.unsettled()})

    def is_word(self, name):
        """Whether a field that may name a file holds a word in its place."""
        field = type(self).__dataclass_fields__[name]
        return getattr(self, name) in field.metadata["content"]

    @classmethod
    def defaults(cls):
        """Every field's default."""
        return {f.name: f.default for f in dataclasses.fields(cls)}


def of_today(recorded):
    """Settings as an older version recorded them, under the names and words of today."""
    settings = dict(recorded)
    if "psl_start_epoch" in settings:
        settings["psl_start"] = settings.pop("psl_start_epoch")
    if str(settings.get("psl_start", "")).isdecimal():  # it was a text for a while
        settings["psl_start"] = int(settings["psl_start"])
    if "relabel_tags_only" in settings:
        settings["relabel_outside"] = "next" if settings.pop("relabel_tags_only") else "keep"
    # Until there was --fc_channels, the word meant VGG-16 without its top.
    if settings.get("weights") == "imagenet" and "fc_channels" not in settings:
        settings["weights"] = "imagenet_notop"
    return settings


def _shown(value):
    """A value in one line, whatever it holds."""
    text = str(value)
    return (text if text.isprintable() else repr(text))[:200]


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _number(field, value):
    """The value of a field with `words`: one of them, or a number if it is one."""
    if isinstance(value, str) and value not in field.metadata["words"]:
        with contextlib.suppress(ValueError):
            return field.type(value)
    return value


def _expected(field, value):
    """What a field should hold in place of a value, in words; None where the value will do."""
    meta, kind = field.metadata, field.type
    if isinstance(value, str) and value in meta["words"]:
        return None
    words = "".join(f"{word} or " for word in meta["words"])
    # Python takes True for a number and 1 for one with a point; the latter is fine.
    if not isinstance(value, (int, float) if kind is float else kind) or (
        isinstance(value, bool) and kind is not bool
    ):
        return words + _KINDS[kind]
    if meta["choices"] and value not in meta["choices"]:
        return f"one of {', '.join(meta['choices'])}"
    if kind is str:
        return _expected_text(meta["kind"], value)
    if kind is float and not math.isfinite(value):
        return f"{words}a finite number"
    for name, said, holds in _BOUNDS:
        if meta[name] is not None and not holds(value, meta[name]):
            return f"{words}{said} {meta[name]}"
    return None


_BOUNDS = (("low", "at least", operator.ge), ("high", "at most", operator.le),
           ("above", "more than", operator.gt), ("below", "less than", operator.lt))  # fmt: skip


def _expected_text(kind, text):
    if "\0" in text:
        return "a text without zero bytes"
    if kind in ("name", "name?"):
        if text == "":
            return None if kind == "name?" else "a name"
        # It becomes a file's or a folder's name.
        if "/" in text or "\\" in text or text.startswith(".") or not text.isprintable():
            return "a name: no path, no dot at its beginning, nothing that cannot be printed"
        if len(text.encode()) > 200:
            return "a name of 200 bytes at most"
    if kind == "scales" and scales(text) is None:
        return "scales of 0.1 to 4 by commas, each once, 16 at most, such as 0.75,1,1.25"
    if kind == "epochs" and drop_epochs(text) is None:
        return "epochs by commas, each later than the one before, such as 6,12"
    return None


def drop_epochs(text):
    """--lr_drop_epochs as numbers; None where it is no such list."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        return None
    epochs = [int(part) for part in parts]
    later = all(one < other for one, other in itertools.pairwise([0, *epochs]))
    return epochs if later else None


def scales(text):
    """--multi_scale or --relabel_multi_scale as numbers; None where it is no such list."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    fits = len(found) == len(set(found)) <= 16 and all(0.1 <= scale <= 4 for scale in found)
    return found if fits else None


# -------------------------------------------------------------- what several phases have in common


@dataclasses.dataclass(frozen=True)
class TrainSplit(Config):
    """The split whose tags are learned from."""

    train_split: str = setting("train", "split that is trained on", kind="name")


@dataclasses.dataclass(frozen=True)
class Devkit(Config):
    """The pictures, lists and masks as PASCAL VOC keeps them."""

    voc_root: str = setting("", "VOC devkit folder, the one that holds JPEGImages", content=("",))


@dataclasses.dataclass(frozen=True)
class LabelLoss(Config):
    """How classification scores are read, by both networks."""

    label_loss: str = setting(
        "softmax",
        "reading of the squared label loss: softmax scores against tags divided by "
        "their sum (HCP), or sigmoid scores against 0/1 tags; cross_entropy: sigmoid scores "
        "by cross-entropy, which has a gradient where a score is sure and wrong (not the paper's)",
        paper="§3.2",
        choices=("softmax", "sigmoid", "cross_entropy"),
    )


READY = 0.8
"""The mean `losses.tag_score` from which `--psl_start=auto` lets Ŝ in."""

ONE_CLASS = (
    "--label_loss=softmax learns nothing of a single class: its score is always 1; give "
    "--label_loss=sigmoid or cross_entropy"
)
"""What is said of softmax scores where there is a single class."""


@dataclasses.dataclass(frozen=True)
class PixelLimit(Config):
    """The size that a network sees whole images at."""

    pixel_limit: int = setting(
        4_000_000,
        "larger images go through a network at this many pixels; what it says is scaled back",
        unit="pixels",
        low=4096,
    )


@dataclasses.dataclass(frozen=True)
class Determinism(Config):
    """Of every phase that runs a network."""

    deterministic: str = setting(
        "auto",
        "on: TensorFlow takes only operations that give the same bytes every time, which on a GPU "
        "costs speed; auto: on where there is no GPU",
        choices=("auto", "on", "off"),
        identity=False,
    )


@dataclasses.dataclass(frozen=True)
class Segmentation(PixelLimit):
    """From a segmenter's output to a mask: the test policy, and the size it works at."""

    p: float = setting(
        0.1, "scores below p prohibit their class", paper="§3.2, §4.1", low=0, high=1
    )
    test_policy: str = setting(
        "weights",
        "what scores not below p do to their class's map: weights weighs it by the score (the "
        "paper), max by the score's share of the highest, threshold leaves it; none prohibits "
        "nothing either",
        paper="§3.2",
        choices=("weights", "max", "threshold", "none"),
    )


def _while_training(base, name):
    """A field of `base` where it shapes only what one sees while training, and no byte made."""
    field = base.__dataclass_fields__[name]
    return dataclasses.field(default=field.default, metadata=field.metadata | {"identity": False})


@dataclasses.dataclass(frozen=True)
class MaxPixels(Config):
    """How large a picture file may be."""

    max_pixels: int = setting(
        150_000_000,
        "larger pictures are refused, by their header; TensorFlow reads none above the highest",
        unit="pixels",
        low=1,
        high=178_000_000,
        identity=False,
    )


# ---------------------------------------------------------------------------- data preparation


@dataclasses.dataclass(frozen=True)
class MakeDemo(Config):
    """The drawn VOC devkit of the demo."""

    demo_root: str = setting("", "folder to write the drawn devkit to")
    demo_train: int = setting(160, "training scenes to draw", low=1)
    demo_val: int = setting(48, "validation scenes to draw", low=1)
    seed: int = setting(0, "seed of every random draw", low=0)


@dataclasses.dataclass(frozen=True)
class DownloadVoc(Devkit):
    """VOC 2012 and SBD; where --voc_root is given, VOC is already there."""

    download_dir: str = setting("", "folder for the archives and VOCdevkit/VOC2012")
    sbd: str = setting(
        "auto",
        "SBD's masks and train_aug.txt: download adds them to the devkit; auto does where VOC is "
        "downloaded, not where --voc_root is given",
        paper="§4.1",
        choices=("auto", "download", "none"),
    )
    keep_archives: bool = setting(True, "keep the archives after they are unpacked")
    voc_url: str = setting(
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "address of VOC 2012's archive",
    )
    voc_md5: str = setting("6cd6e144f989b92b3379bac3b3de84fd", "md5 of that archive")
    sbd_url: str = setting(
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
        "benchmark.tgz",
        "address of SBD's archive",
    )
    sbd_md5: str = setting("82b4d87ceb2ed10f6038a1cba92111cb", "md5 of that archive")


@dataclasses.dataclass(frozen=True)
class WriteVoc(Devkit, MaxPixels):
    """A VOC devkit, or a folder of pictures → `images` and, apart from it, `ground_truth`."""

    images_dir: str = setting(
        "", "folder of pictures, in place of a devkit; see data_prep.write_folder", content=("",)
    )
    masks_dir: str = setting(
        "",
        "folder of masks ID.png; a devkit's default: VOC_ROOT/SegmentationClass or, where that has "
        "not all of the split's, SegmentationClassAug. A name that is not there is looked for in "
        "VOC_ROOT",
        content=("",),
    )
    val_share: float = setting(
        0.0,
        "of --images_dir: share of the pictures that --val_split gets, by a digest of their names",
        low=0,
        below=1,
    )
    val_split: str = setting("val", "split that is evaluated on", kind="name", identity=False)
    train_split: str = setting("train", "split that is trained on", kind="name", identity=False)
    untagged: str = setting(
        "refuse",
        "pictures without a tag, where the split is not --val_split: refuse them; negative: train "
        "sigmoid scores with them, as pictures that are all background; or drop them",
        choices=("refuse", "negative", "drop"),
    )
    split: str = setting(
        "train", "split: ImageSets/Segmentation/SPLIT.txt; names the data too", kind="name"
    )
    ids_file: str = setting(
        "",
        "file with one image id a line, in place of the split's own list; a name that is not there "
        "is looked for in VOC_ROOT/ImageSets/Segmentation",
        content=("",),
    )
    lists_dir: str = setting(
        "",
        "folder of the lists SPLIT.txt, in place of VOC_ROOT/ImageSets/Segmentation",
        content=("",),
    )
    classes_file: str = setting(
        "", "JSON class list; default: VOC_ROOT/classes.json, else VOC's", content=("",)
    )
    tags_from: str = setting(
        "auto",
        "where image tags come from; auto takes --labels_csv if given, else the sub-folders of "
        "--images_dir, else masks if every image has one, else XML, else writes none",
        paper="§4.1",
        choices=("auto", "masks", "xml", "csv", "folders", "none"),
    )
    labels_csv: str = setting("", "tag file with columns image,labels", content=("",))
    ground_truth: str = setting(
        "auto",
        "auto writes pixel ground truth where every image of the split has a mask; none never does",
        choices=("auto", "none"),
    )
    shards: int = setting(4, "files a family is cut into", low=1)


@dataclasses.dataclass(frozen=True)
class WriteSaliency(TrainSplit):
    """Saliency maps of the training images, for background cues."""

    method: str = setting(
        "drfi",
        "saliency method; folder imports maps, onnx runs a network (--onnx_model)",
        paper="§3.1, §4.1 (DRFI)",
        choices=("drfi", "spectral_residual", "fine_grained", "onnx", "folder"),
    )
    drfi_model: str = setting(
        "",
        "model of --method=drfi, as train_saliency writes it; default: the one that ships",
        content=("",),
    )
    onnx_model: str = setting("", "ONNX salient-object network, for --method=onnx", content=("",))
    maps_dir: str = setting("", "folder of maps ID.png, for --method=folder", content=("",))


@dataclasses.dataclass(frozen=True)
class TrainSaliency(Config):
    """DRFI's regressor, from images with object masks."""

    object_images: str = setting("", "folder of pictures ID.jpg or ID.png")
    object_masks: str = setting("", "folder of masks ID.png: palette or grey, a pixel a class id")
    object_ids: str = setting("", "mask ids of objects, by commas; default: all but 0 and void")
    void_id: int = setting(255, "mask id of pixels that do not count", low=0, high=255)
    held_out: int = setting(
        5,
        "one picture in so many, by a hash of its name, is measured on and not trained with",
        low=2,
    )
    trees: int = setting(200, "trees of the forest", paper="DRFI", low=1)
    leaves: int = setting(300, "leaves a tree at most; they set the model's size", low=2)
    data_note: str = setting("", "what the data is and under which terms, for the provenance")
    drfi_model: str = setting(
        "", "file to write, NAME.npz; NAME.json beside it gets the provenance"
    )
    seed: int = setting(0, "seed of every random draw", low=0)


@dataclasses.dataclass(frozen=True)
class WriteErased(TrainSplit):
    """The erased training images of one step (step ≥ 2): I_t = I with F_1…F_{t−1} filled."""

    step: int = setting(1, "erase step t", paper="Algorithm 1", low=1)


# ------------------------------------------------------------------------------------ networks


NO_IMAGENET = (
    "--weights={weights}: --backbone={backbone} has no ImageNet weights; give --weights=none"
)


@dataclasses.dataclass(frozen=True)
class Network(Config):
    """The DeepLab-LargeFOV trunk that both networks share."""

    backbone: str = setting(
        "vgg16",
        "trunk; vgg16_small has the same shape at a CPU's size",
        paper="§4.1",
        choices=("vgg16", "vgg16_small"),
    )
    weights: str = setting(
        "imagenet",
        "imagenet (downloads VGG-16, fc6 and fc7 included), imagenet_notop (without them), none, "
        "or a weights file of the backbone, which says itself what it has",
        paper="§4.1",
        content=("imagenet", "imagenet_notop", "none"),
    )
    fc6_dilation: int = setting(12, "dilation of fc6", paper="LargeFOV", low=1)
    fc_channels: int = setting(
        0, "channels of fc6 and of fc7; 0: 1024 (LargeFOV), 128 of vgg16_small", low=0
    )
    fc_scale: float = setting(
        1.0,
        "random fc6 and fc7 start at so many times their usual weights; 0.4 for sgd at the paper's "
        "rates above VGG-16 without its top",
        low=0.01,
        high=100,
    )
    input: str = setting(
        "crop",
        "crop: random crops at scale 1; warp: the whole image resized",
        paper="§4.1",
        choices=("crop", "warp"),
    )
    input_size: int = setting(321, "side of the network input, 8k+1", unit="pixels", low=9)
    freeze_through: str = setting(
        "none",
        "keep the layers up to this one at their initial weights",
        choices=("none", "conv3", "conv4", "pool5a"),
    )
    precision: str = setting(
        "float32",
        "what convolutions compute in; weights, losses and last layers stay float32; auto: float32 "
        "or mixed_bfloat16, whichever is faster here when a run's first training begins; "
        "on GPUs mixed_bfloat16 from compute capability 8.0 on",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
        auto=("float32", "mixed_bfloat16"),
    )
    kernel_gradients: str = setting(
        "library",
        "how convolutions get their kernel's gradient: library: by TensorFlow's own operation; "
        "taps, all_taps: by matrix products of what the kernel's taps saw, those that see 512 "
        "channels or 64, the same up to rounding; auto: whichever this machine is fastest by when "
        "a run's first training begins, on GPUs library",
        choices=("auto", "library", "taps", "all_taps"),
        auto=("library", "taps", "all_taps"),
    )
    cache_features: bool = setting(
        False, "run the frozen part once per image into a cache on disk (needs --input=warp)"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.input_size % 8 != 1:
            raise InputError(
                f"--input_size={self.input_size}: expected 8k+1, such as 225 or 321, so that "
                "labels align with the network's cells"
            )
        if self.cache_features and self.input != "warp":
            raise InputError("--cache_features needs --input=warp: random crops cannot be cached")
        if self.cache_features and self.freeze_through == "none":
            raise InputError("--cache_features needs --freeze_through: nothing is frozen to cache")


@dataclasses.dataclass(frozen=True)
class Devices(Determinism):
    """Where training and mining run."""

    strategy: str = setting(
        "auto",
        "devices to train and mine on; auto: multi_worker where TF_CONFIG is set, else all GPUs",
        choices=("auto", "one_device", "mirrored", "multi_worker"),
        identity=False,
    )


@dataclasses.dataclass(frozen=True)
class Solver(Devices):
    """The optimisation: Caffe's SGD as DeepLab used it, or Adam."""

    optimizer: str = setting("sgd", "optimizer", paper="§4.1", choices=("sgd", "adam"))
    learning_rate: float = setting(1e-3, "base learning rate", paper="§4.1", above=0)
    last_layer_rate: float = setting(
        10.0, "learning rate multiplier of the last layers", paper="§4.1", low=0
    )
    bias_rate: float = setting(
        2.0, "learning rate multiplier of biases", paper="DeepLab prototxt", low=0
    )
    momentum: float = setting(0.9, "momentum of sgd", paper="DeepLab prototxt", low=0, below=1)
    weight_decay: float = setting(
        5e-4,
        "L2 factor in the gradient of kernels, none on biases",
        paper="DeepLab prototxt",
        low=0,
    )
    lr_policy: str = setting(
        "step",
        "step multiplies by 0.1 at --lr_drop_epochs; poly decays to 0 with power 0.9",
        paper="§4.1",
        choices=("step", "poly"),
    )
    lr_drop_epochs: str = setting(
        "6", "epochs after which the rate drops, by commas", paper="§4.1", kind="epochs"
    )
    epochs: int = setting(15, "epochs", paper="§4.1", low=1)
    global_batch: int = setting(30, "images a train step, over all replicas", paper="§4.1", low=1)
    accumulate: int = setting(
        1, "pieces that a replica's share of a batch is forwarded in, to save memory", low=1
    )
    dropout: float = setting(
        0.5, "dropout rate after fc6 and fc7", paper="DeepLab prototxt", low=0, below=1
    )
    seed: int = setting(0, "seed of every random draw", low=0)
    checkpoint_seconds: float = setting(
        120.0, "time between two checkpoints", unit="s", low=0, identity=False
    )
    keep: int = setting(2, "checkpoints kept", low=1, identity=False)


@dataclasses.dataclass(frozen=True)
class TrainClassifier(Network, Solver, TrainSplit, LabelLoss):
    """M_t of Algorithm 1, trained on the images as erased before step t."""

    pixel_limit: int = _while_training(PixelLimit, "pixel_limit")
    step: int = setting(1, "erase step t", paper="Algorithm 1", low=1)
    start_from: str = setting(
        "weights",
        "where M_t starts for t > 1: --weights, or M_{t−1}",
        choices=("weights", "previous"),
    )


@dataclasses.dataclass(frozen=True)
class Region(Devices, TrainSplit, PixelLimit):
    """From a heatmap of step t to a region."""

    step: int = setting(1, "erase step t", paper="Algorithm 1", low=1)
    threshold_rule: str = setting(
        "fraction_of_max",
        "fraction_of_max: above δ·max of the heatmap; top_pixels: the δ share "
        "of pixels with the largest values",
        paper="§4.1",
        choices=("fraction_of_max", "top_pixels"),
    )
    threshold: float = setting(
        0.2,
        "δ; auto: each step's own, by which the regions so far meet the salient area best, in "
        "intersection over union; no ground truth is needed",
        paper="§4.1",
        low=0,
        high=1,
        words=("auto",),
    )


@dataclasses.dataclass(frozen=True)
class MineRegions(Region):
    """F_t: CAM heatmaps above a threshold."""


@dataclasses.dataclass(frozen=True)
class Background(Config):
    """Where a pixel is background."""

    background_threshold: float = setting(
        0.12, "normalised saliency below which a pixel is background", paper="§4.1", low=0, high=1
    )
    indoor_background_threshold: float = setting(
        0.06, "the same for images with an indoor tag", paper="§4.1", low=0, high=1
    )


@dataclasses.dataclass(frozen=True)
class ChooseThreshold(Region, Background):
    """How well regions meet the salient area, by δ."""


@dataclasses.dataclass(frozen=True)
class MergeSteps(Config):
    """The erase steps whose regions are merged into the masks."""

    merge_steps: int = setting(
        3,
        "erase steps merged into the masks; auto, of the pipeline: as many as bring the regions "
        "nearer to the salient area, after which it erases no more",
        paper="§4.3.1",
        low=1,
        words=("auto",),
    )


@dataclasses.dataclass(frozen=True)
class MakeMasks(TrainSplit, MergeSteps, Background):
    """S = F ∪ B with the three ignore rules."""


@dataclasses.dataclass(frozen=True)
class TrainSegmenter(Network, Solver, TrainSplit, LabelLoss, MergeSteps):
    """The two-branch segmenter; --psl=none is vanilla LargeFOV."""

    p: float = _while_training(Segmentation, "p")
    test_policy: str = _while_training(Segmentation, "test_policy")
    pixel_limit: int = _while_training(PixelLimit, "pixel_limit")
    name: str = setting(
        "", "model name, RUN/NAME; default no_psl, branch_only or psl", kind="name?"
    )
    masks: str = setting(
        "", "masks to train on, RUN/masks/NAME; default those of --merge_steps", kind="name?"
    )
    psl: str = setting(
        "full",
        "none: no classification branch; branch_only: trained with it; full: and Ŝ",
        paper="§3.2",
        choices=("none", "branch_only", "full"),
    )
    psl_start: int = setting(
        "auto",
        "epochs before J(f, Ŝ) joins the loss (the paper: 0), or auto: until the training images' "
        "own tags have a mean score of 0.8 of what they should; Ŝ from scores that are not ready "
        "moves objects to the background",
        low=0,
        words=("auto",),
    )
    psl_scores: str = setting(
        "predicted",
        "v that weighs the maps in training: predicted, the tags, or all ones",
        paper="§4.3.2",
        choices=("predicted", "tags", "ones"),
    )
    classification_weight: float = setting(1.0, "λ of the label loss", low=0)
    pixel_norm: str = setting(
        "image",
        "J divides by the labelled pixels of each image (the paper) or of the batch (Caffe)",
        paper="§3.2",
        choices=("image", "batch"),
    )
    start_model: str = setting("", "segmenter of this run to start from, RUN/NAME", kind="name?")

    def __post_init__(self):
        super().__post_init__()
        if self.accumulate > 1 and self.psl == "full" and self.pixel_norm == "batch":
            raise InputError(
                "--accumulate needs --pixel_norm=image: the pixels that the online mask labels "
                "are not known before a batch is through"
            )


PREFIXES = {TrainClassifier: "classifier_", TrainSegmenter: "segmenter_"}
"""Settings → what stands before a flag that is meant for them alone."""


# -------------------------------------------------------------------------------------- after


@dataclasses.dataclass(frozen=True)
class Inference(Segmentation, Determinism):
    """How a segmenter's output becomes a mask."""

    crf: bool = setting(True, "clean masks with the dense CRF", paper="§4.1")
    crf_preset: str = setting(
        "deeplab", "CRF settings by name", choices=("deeplab", "oaa", "sec", "small")
    )
    crf_iterations: int = setting(10, "mean-field iterations", paper="DeepLab", low=1)


@dataclasses.dataclass(frozen=True)
class Views(Inference):
    """Test-time augmentation: scores and probabilities are means over views of a picture."""

    multi_scale: str = setting(
        "1",
        "scales that the network sees a picture at, by commas; DeepLab's are "
        "0.5,0.75,1,1.25,1.5. None is seen above --pixel_limit",
        kind="scales",
    )
    flip: bool = setting(False, "and at each scale the mirrored picture too")


@dataclasses.dataclass(frozen=True)
class Relabel(Inference, TrainSplit):
    """The segmenter's own CRF-cleaned output on the training images, as masks for PSL++."""

    model: str = setting("psl", "segmenter of this run, RUN/MODEL", kind="name")
    relabelled: str = setting(
        "relabelled", "name of the new masks, RUN/masks/NAME: relabelled…", kind="name"
    )
    relabel_crf: bool = setting(True, "clean the new masks with the CRF, where --crf is on")
    relabel_outside: str = setting(
        "keep",
        "pixels of the new masks whose class is none of the image's tags: keep them; void: they "
        "do not count, as in J's sum over O^seg; next: the likeliest class that is a tag, or "
        "background",
        paper="§3.2",
        choices=("keep", "void", "next"),
    )
    relabel_multi_scale: str = setting(
        "1",
        "scales that the network sees a training image at, by commas, as --multi_scale has them: "
        "means over them make the new masks",
        kind="scales",
    )
    relabel_flip: bool = setting(False, "and at each scale the mirrored image too")


@dataclasses.dataclass(frozen=True)
class SupervisedMasks(TrainSplit):
    """Copies ground truth to masks, for the supervised ceiling; the one training phase that may."""


@dataclasses.dataclass(frozen=True)
class Evaluate(Views, MergeSteps):
    """IoU against ground truth."""

    what: str = setting(
        "model",
        "model: RUN/MODEL on --split; masks: RUN/masks/MASKS; regions: union of the "
        "first --merge_steps steps; saliency: that of --split, any class being object",
        choices=("model", "masks", "regions", "saliency"),
    )
    split: str = setting("val", "split to evaluate on", kind="name")
    model: str = setting("psl", "segmenter of this run, RUN/MODEL", kind="name")
    masks: str = setting(
        "", "masks to evaluate, RUN/masks/NAME; default those of --merge_steps", kind="name?"
    )
    with_tags: bool = setting(False, "take the image tags as v (the paper's +GT)", paper="§4.3.2")

    def identity(self):
        """All but a model's numbers hang on their name and split alone."""
        fields = super().identity()
        return fields if self.what == "model" else {k: fields[k] for k in ("what", "split")}


@dataclasses.dataclass(frozen=True)
class Predict(Views, MaxPixels):
    """Masks and overlays for image files."""

    model: str = setting("psl", "segmenter of this run, RUN/MODEL", kind="name")
    images: str = setting(
        "",
        "image files, folders of them or patterns such as photos/**/*.jpg, by commas; an ID is a "
        "picture's path below the folder, without suffix",
    )
    recursive: bool = setting(False, "folders with all that is below them")
    ids_file: str = setting("", "file with one ID a line: these pictures alone, in this order")
    output: str = setting(
        "", "folder for ID.png masks, ID_overlay.png pictures, and areas.csv of all classes"
    )
    max_side: int = setting(
        0,
        "larger pictures are seen at this side, and their masks brought back; 0: no limit but "
        "--pixel_limit",
        unit="pixels",
        low=0,
    )
    batch: int = setting(
        1,
        "pictures of one size that go through the network together; with 1 masks without the CRF "
        "are the exported model's to the bit, with more all but a few pixels",
        low=1,
    )
    scores: bool = setting(
        False,
        "ID_scores.npz: probabilities after prohibition and before the CRF, float16 [H, W, C+1], "
        "of the picture as the network sees it; scores v, float32 [C]; names",
    )
    coco: bool = setting(
        False, "coco.json: each class of a picture as COCO's compressed RLE, of all in --output"
    )
    contact_sheet: bool = setting(
        False, "contact_sheet_001.png…: the overlays in --output with their IDs"
    )
    voc_submission: bool = setting(
        False,
        "results/VOC2012/Segmentation/comp6_test_cls/ID.png and results.tar.gz, checked, for VOC's "
        "evaluation server",
        paper="Table 2",
    )


@dataclasses.dataclass(frozen=True)
class Export(Segmentation):
    """A model for others to run; --pixel_limit and --max_pixels shape a SavedModel alone."""

    model: str = setting("psl", "segmenter of this run, RUN/MODEL", kind="name")
    format: str = setting(
        "saved_model",
        "saved_model: RUN/export/MODEL/1, as TensorFlow Serving takes it, and a model card; "
        "tflite, onnx: the file RUN/export/MODEL.tflite or MODEL.onnx, which takes pixels",
        choices=("saved_model", "tflite", "onnx"),
    )
    max_pixels: int = dataclasses.field(  # here it is part of what is made
        default=MaxPixels.__dataclass_fields__["max_pixels"].default,
        metadata=MaxPixels.__dataclass_fields__["max_pixels"].metadata | {"identity": True},
    )


@dataclasses.dataclass(frozen=True)
class Report(Segmentation, Background, Determinism, TrainSplit):
    """A page, panels of pictures and curves of a run."""

    panel_images: int = setting(3, "training images in a class's panel and in the gallery", low=1)
    open: bool = setting(False, "open the page in a browser when it is written", identity=False)


@dataclasses.dataclass(frozen=True)
class Pipeline(TrainSplit):
    """Algorithm 1's loop and what the pipeline runs after it."""

    val_split: str = setting("val", "split that is evaluated on", kind="name")
    max_steps: int = setting(4, "erase steps at most", paper="Algorithm 1", low=1)
    stop_loss: float = setting(
        0.0,
        "stop when M_t's loss over its last epoch is above this (0: never)",
        paper="§4.3.1",
        low=0,
    )
    stop_loss_ratio: float = setting(
        0.0, "stop when that loss is above this many times M_1's (0: never)", paper="§4.3.1", low=0
    )
    segmenters: str = setting(
        "no_psl,psl,psl_plus_plus",
        "segmenters to train, by commas: no_psl, psl, psl_plus_plus (needs psl), psl_plus_plus_2 "
        "(a second round, needs psl_plus_plus), supervised",
        paper="§4.3.2",
    )
    finish: str = setting(
        "export,report", "what follows the segmenters, by commas: export, report, or nothing"
    )
    psl_plus_plus_from: str = setting(
        "psl",
        "PSL++ starts from the model it is relabelled by, or from --weights",
        choices=("psl", "weights"),
    )
    psl_plus_plus: str = setting(
        "full", "--psl of the PSL++ round", choices=("none", "branch_only", "full")
    )
    dry_run: bool = setting(False, "print the plan and stop")


@dataclasses.dataclass(frozen=True)
class Experiments(Config):
    """Which experiments are run, and how often."""

    runs: str = setting("", "folder of the runs of all experiments")
    only: str = setting(
        "", "experiments by their names or the beginnings of these, by commas; default: all"
    )
    seeds: int = setting(1, "runs of each, with seeds 0, 1, …", low=1)
    show: bool = setting(False, "run nothing; write the table of what is finished")


@dataclasses.dataclass(frozen=True)
class Inspect(TrainSplit):
    """A first look at the splits that are written."""

    val_split: str = setting("val", "split that is evaluated on", kind="name")
