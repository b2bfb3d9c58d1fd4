"""The descriptors of a region: DRFI's 93 (Jiang et al., CVPR 2013, tables 1 to 3) and 4 more.

Everything that a descriptor needs of a region is a sum over its pixels: counts, colours and their
squares, histograms. The sums are taken once, over the regions of the finest segmentation; those of
a coarser one are sums of these. No loop runs over regions.
"""

import dataclasses
import functools

import cv2
import numpy as np

_BORDER = 15 / 400
"""Width of the pseudo-background frame: 15 pixels of the paper's 400."""

COLOURS = ("r", "g", "b", "l", "a_star", "b_star", "hue", "saturation", "value")
FILTERS = 15
_MEANS = len(COLOURS) + FILTERS
_HISTOGRAMS = {"rgb": 8 * 8 * 4, "lab": 4 * 8 * 8, "hsv": 8 * 8 * 4, "filters": FILTERS, "lbp": 256}

_DIFFERENCES = (
    *(f"mean_{c}" for c in COLOURS),
    *(f"filter_{i}" for i in range(FILTERS)),
    *(f"histogram_{h}" for h in _HISTOGRAMS),
)
NAMES = (
    *(f"contrast_{d}" for d in _DIFFERENCES),
    *(f"background_{d}" for d in _DIFFERENCES),
    *("x_mean", "y_mean", "x_10", "x_90", "y_10", "y_90", "perimeter", "aspect"),
    *(f"variance_{c}" for c in COLOURS),
    *(f"variance_filter_{i}" for i in range(FILTERS)),
    *("variance_lbp", "area", "neighbour_area"),
    *("edge_share", "edge_length", "edge_connectivity", "from_centre"),
)
"""29 differences from the neighbours, 29 from the frame, 35 properties, and 4 that are not DRFI's:
how a region holds to the image's edge (after Zhu et al., CVPR 2014) and how far out it lies."""
_ALIKE = 0.1
"""σ of the likeness of two regions by their mean colours' Lab distance."""


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What is measured of every pixel of an image `[H, W]`, in row order, N = H·W.

    Attributes:
      shape: (H, W).
      values: float32 `[9 + 15 + 1, N]` in 0..1: colours, absolute filter responses, LBP code.
      codes: histogram name → intp `[N]`, the pixel's bin.
    """

    shape: tuple
    values: np.ndarray
    codes: dict


@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over the pixels of K regions.

    Attributes:
      shape: (H, W) of the image.
      table: float64 `[K, D]`: pixel count, frame pixels on the image's edge, values, squared
        values, the histograms, and pixels per column and per row.
      borders: float64 `[K, K]`, symmetric, 0 on the diagonal: pixel pairs that two regions share
        as neighbours.
    """

    shape: tuple
    table: np.ndarray
    borders: np.ndarray


@functools.cache
def filter_bank():
    """15 filters after Leung & Malik: 6 edges and 6 bars around the circle, 3 blobs.

    Returns:
      15 float32 `[19, 19]` of mean 0 and L1 norm 1.
    """
    y, x = np.mgrid[-9:10, -9:10].astype(np.float64)
    across, along = np.sqrt(2), 3 * np.sqrt(2)  # LM's finest scale, elongated three times
    bank = []
    for order in (1, 2):
        for angle in np.arange(6) * np.pi / 6:
            u = x * np.cos(angle) + y * np.sin(angle)
            v = y * np.cos(angle) - x * np.sin(angle)
            gauss = np.exp(-(u**2) / (2 * across**2) - v**2 / (2 * along**2))
            bank.append(gauss * (-u if order == 1 else u**2 / across**2 - 1))
    for sigma in (np.sqrt(2), 2, 2 * np.sqrt(2)):
        r2 = (x**2 + y**2) / sigma**2
        bank.append(np.exp(-r2 / 2) * (r2 - 2))  # Laplacian of a Gaussian
    bank = [f - f.mean() for f in bank]
    return tuple((f / np.abs(f).sum()).astype(np.float32) for f in bank)


def local_binary_pattern(grey):
    """Which of a pixel's 8 neighbours are at least as bright: uint8 `[H, W]` → uint8 `[H, W]`."""
    height, width = grey.shape
    padded = cv2.copyMakeBorder(grey, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    around = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    pattern = np.zeros_like(grey)
    for bit, (y, x) in enumerate(around):
        pattern |= (padded[y : y + height, x : x + width] >= grey).astype(np.uint8) << bit
    return pattern


def measure(image):
    """uint8 RGB `[H, W, 3]` → `Pixels`."""
    rgb = image.astype(np.float32) / 255
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB) / 100  # L in 0..1, a and b about -1..1
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV) * np.float32([1 / 360, 1, 1])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    intensity = grey.astype(np.float32) / 255
    responses = np.stack(
        [
            np.abs(cv2.filter2D(intensity, cv2.CV_32F, f, borderType=cv2.BORDER_REFLECT))
            for f in filter_bank()
        ]
    )
    pattern = local_binary_pattern(grey)
    channels = np.concatenate([rgb, lab, hsv], -1).reshape(-1, len(COLOURS)).T
    values = np.concatenate(
        [channels, responses.reshape(FILTERS, -1), pattern.reshape(1, -1) / np.float32(255)]
    )
    codes = {
        "rgb": _bins(rgb, (8, 8, 4)),
        # Natural colours keep near the middle of a and b: bins reach to ±0.5 and clip beyond.
        "lab": _bins(lab + np.float32([0, 0.5, 0.5]), (4, 8, 8)),
        "hsv": _bins(hsv, (8, 8, 4)),
        "filters": responses.argmax(0).ravel(),
        "lbp": pattern.ravel().astype(np.intp),
    }
    return Pixels(image.shape[:2], np.ascontiguousarray(values), codes)


def _bins(channels, counts):
    """float `[H, W, 3]` in 0..1 → index `[H·W]` of the joint histogram's bin."""
    index = 0
    for channel, count in zip(np.moveaxis(channels, -1, 0), counts, strict=True):
        index = index * count + np.clip((channel * count).astype(np.intp), 0, count - 1)
    return index.ravel()


def region_sums(pixels, labels):
    """`Sums` of the regions of one segmentation.

    Args:
      pixels: `Pixels` of an image.
      labels: integer `[H, W]`, every number 0..K−1 present.
    """
    height, width = pixels.shape
    count = int(labels.max()) + 1
    edge = np.zeros([height, width], bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    y, x = np.mgrid[:height, :width]
    flat = labels.ravel().astype(np.intp)
    table = np.column_stack(
        [
            _totals(pixels, flat, count, edge.ravel()),
            _histogram(flat, count, x.ravel(), width),
            _histogram(flat, count, y.ravel(), height),
        ]
    )
    borders = np.zeros(count * count)
    for one, other in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        apart = one != other
        pairs = one[apart].astype(np.intp) * count + other[apart]
        borders += np.bincount(pairs, minlength=count * count)
    borders = borders.reshape(count, count)
    return Sums(pixels.shape, table, borders + borders.T)


def _totals(pixels, labels, count, edge, chosen=slice(None)):
    """Count, edge pixels, values, squares and histograms of the chosen pixels: `[count, D]`."""
    labels = labels[chosen]
    columns = [
        np.bincount(labels, minlength=count),
        np.bincount(labels, edge[chosen], minlength=count),
    ]
    for value in pixels.values:
        columns.append(np.bincount(labels, value[chosen], minlength=count))
    for value in pixels.values:
        columns.append(np.bincount(labels, value[chosen] ** 2, minlength=count))
    histograms = [
        _histogram(labels, count, pixels.codes[name][chosen], size)
        for name, size in _HISTOGRAMS.items()
    ]
    return np.column_stack([np.column_stack(columns), *histograms])


def _histogram(labels, count, codes, size):
    return np.bincount(labels * size + codes, minlength=count * size).reshape(count, size)


def frame_sums(pixels):
    """The pseudo-background's sums, one row like a region's without its columns and rows."""
    height, width = pixels.shape
    margin = max(1, round(_BORDER * max(height, width)))
    inside = np.zeros([height, width], bool)
    inside[margin : height - margin, margin : width - margin] = True
    frame = np.flatnonzero(~inside)
    none = np.zeros(height * width, np.intp)
    return _totals(pixels, none, 1, none, frame)


def merge_sums(sums, groups):
    """`Sums` of a coarser segmentation: `groups` intp `[K]` holds each region's new number."""
    borders = _add_up(_add_up(sums.borders, groups).T, groups)
    np.fill_diagonal(borders, 0)
    return Sums(sums.shape, _add_up(sums.table, groups), borders)


def _add_up(rows, groups):
    """Sums of the rows of each group. (A matrix product would start BLAS threads in workers.)"""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(groups.max() + 1))
    return np.add.reduceat(rows[order], starts, axis=0)


def mean_lab(sums):
    """Each region's mean colour, float64 `[K, 3]`, a distance of 1 being 100 in CIE Lab."""
    start = 2 + COLOURS.index("l")
    return sums.table[:, start : start + 3] / sums.table[:, :1]


def describe(sums, frame):
    """The descriptors of K regions.

    Args:
      sums: their `Sums`.
      frame: `frame_sums` of the same image.

    Returns:
      float32 `[K, 97]`, columns as in `NAMES`.
    """
    means, histograms = _averages(sums.table)
    frame_means, frame_histograms = _averages(frame)
    one, other = np.nonzero(sums.borders)
    area = sums.table[:, 0]
    # λ: a neighbour counts by its share of all neighbours' area.
    neighbour_area = np.where(sums.borders > 0, area, 0).sum(1)
    weights = area[other] / neighbour_area[one]
    apart = _differences(
        means[one], means[other], [h[one] for h in histograms], [h[other] for h in histograms]
    )
    contrast = np.zeros([len(area), apart.shape[1]])
    if len(one):  # pairs come sorted by `one`
        present, starts = np.unique(one, return_index=True)
        contrast[present] = np.add.reduceat(apart * weights[:, None], starts, axis=0)
    background = _differences(means, frame_means, histograms, frame_histograms)
    properties = _properties(sums, neighbour_area)
    return np.column_stack([contrast, background, properties, _place(sums)]).astype(np.float32)


def _averages(table):
    """(means `[K, 24]`, normalised histograms, each `[K, bins]`) of rows of `Sums.table`."""
    shares = table / table[:, :1]
    start = 2 + 2 * (_MEANS + 1)
    ends = start + np.cumsum(list(_HISTOGRAMS.values()))
    return shares[:, 2 : 2 + _MEANS], np.split(shares[:, start : ends[-1]], ends[:-1] - start, 1)


def _differences(means, other_means, histograms, other_histograms):
    """|Δ| of means and χ² of histograms: `[K, 29]`."""
    distances = [_chi_square(a, b) for a, b in zip(histograms, other_histograms, strict=True)]
    return np.column_stack([np.abs(means - other_means), *distances])


def _chi_square(one, other):
    """½ Σ (a − b)² / (a + b) over the last axis, in 0..1 for normalised histograms."""
    total = np.maximum(one + other, 1e-12)  # where both are 0 the square is 0 too
    return 0.5 * ((one - other) ** 2 / total).sum(-1)


def _properties(sums, neighbour_area):
    """The 35 properties `[K, 35]`."""
    height, width = sums.shape
    table = sums.table
    area = table[:, 0]
    values = table[:, 2 : 2 + _MEANS + 1] / area[:, None]
    squares = table[:, 2 + _MEANS + 1 : 2 + 2 * (_MEANS + 1)] / area[:, None]
    columns, rows = table[:, -height - width : -height], table[:, -height:]
    left, x_mean, right, x_low, x_high = _extent(columns)
    top, y_mean, bottom, y_low, y_high = _extent(rows)
    perimeter = (sums.borders.sum(1) + table[:, 1]) / (2 * (height + width))
    return np.column_stack(
        [
            *(x_mean / width, y_mean / height),
            *(x_low / width, x_high / width, y_low / height, y_high / height),
            *(perimeter, (right - left + 1) / (bottom - top + 1)),
            np.maximum(squares - values**2, 0),
            *(area / (height * width), neighbour_area / (height * width)),
        ]
    )


def _extent(counts):
    """First, mean, last, 10th and 90th percentile position of pixels counted by position."""
    size = counts.shape[1]
    share = np.cumsum(counts, 1) / counts.sum(1, keepdims=True)
    filled = counts > 0
    return (
        filled.argmax(1),
        (counts * np.arange(size)).sum(1) / counts.sum(1),
        size - 1 - filled[:, ::-1].argmax(1),
        (share >= 0.1).argmax(1),
        (share >= 0.9 - 1e-9).argmax(1),
    )


def _place(sums):
    """The 4 that are not DRFI's `[K, 4]`: hold on the image's edge, way from its centre."""
    height, width = sums.shape
    area, edge = sums.table[:, 0], sums.table[:, 1]
    lab = mean_lab(sums)
    apart = ((lab[:, None] - lab[None]) ** 2).sum(-1)
    alike = np.exp(-apart / (2 * _ALIKE**2))
    # Zhu's boundary connectivity, of all that looks alike and not only what is connected.
    connectivity = (alike * edge).sum(1) / np.sqrt((alike * area).sum(1))
    columns, rows = sums.table[:, -height - width : -height], sums.table[:, -height:]
    x = (columns * np.arange(width)).sum(1) / area
    y = (rows * np.arange(height)).sum(1) / area
    return np.column_stack(
        [
            edge / (sums.borders.sum(1) + edge),
            edge / np.sqrt(area),
            connectivity,
            np.hypot(x / width - 0.5, y / height - 0.5),
        ]
    )
