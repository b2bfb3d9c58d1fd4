"""The paper's equations again, from its text, as plain loops over pixels and in double precision.

Slow and without a library's help on purpose: what they share with the code they judge is the paper.
A mask is a NumPy array of class ids, 0 the background, VOID where there is no label; O^seg is the
background and the image's tags.
"""

import math

import numpy as np

VOID = 255


def pixels(array):
    """Every place (row, column) of an image plane."""
    height, width = np.shape(array)[:2]
    return [(y, x) for y in range(height) for x in range(width)]


def softmax(logits):
    """The pixel-wise probability of each label, from scores `[..., C+1]`."""
    exponentials = np.exp(np.asarray(logits, float) - np.max(logits, axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


# ------------------------------------------------------------------------------- §3.1: erasing


def heatmap(features, class_weights, c):
    """CAM (Zhou et al., the paper's [34], Eq. 2): M_c(x, y) = Σ_k w_k^c f_k(x, y)."""
    made = np.zeros(features.shape[:2])
    for u in pixels(made):
        for k in range(features.shape[2]):
            made[u] += float(class_weights[k, c]) * float(features[u][k])
    return made


def enlarged(cells, height, width):
    """Bilinear; the corners of cells `[h, w]` meet those of the picture."""
    return bilinear(
        cells, height, width, lambda i, size, n: i * (n - 1) / (size - 1) if size > 1 else 0.0
    )


def resized(image, height, width):
    """Bilinear; pixels are squares, and the outlines of both images meet."""
    return bilinear(
        image, height, width, lambda i, size, n: min(max((i + 0.5) * n / size - 0.5, 0.0), n - 1)
    )


def bilinear(image, height, width, at):
    """`at(index, size, count)`: where a pixel of the result lies in `[count]` pixels."""

    def place(index, size, count):
        below = int(at(index, size, count))
        return below, min(below + 1, count - 1), at(index, size, count) - below

    made = np.zeros((height, width))
    for y, x in pixels(made):
        top, bottom, down = place(y, height, image.shape[0])
        left, right, across = place(x, width, image.shape[1])
        upper = float(image[top, left]) * (1 - across) + float(image[top, right]) * across
        lower = float(image[bottom, left]) * (1 - across) + float(image[bottom, right]) * across
        made[y, x] = upper * (1 - down) + lower * down
    return made


def region(heatmap, fraction):
    """R: "pixel values in H larger than δ" (Algorithm 1, line 7), "those pixels belonging to top
    20% of the largest value" (§4.1): δ is a fraction of the largest value.
    """
    largest = max(float(heatmap[u]) for u in pixels(heatmap))
    found = np.zeros(heatmap.shape, bool)
    for u in pixels(heatmap):
        found[u] = float(heatmap[u]) > fraction * largest
    return found


def algorithm_1(image, mean_pixel, heatmaps, fraction):
    """Lines 3 to 12 of Algorithm 1 for one image I with tags O.

    Args:
      image: I, uint8 `[H, W, 3]`; mean_pixel: "the mean pixel values of all the training images".
      heatmaps: H_t^c by step, then by tag.

    Returns:
      (F^c by tag, merged over the steps; I_{t+1} after the last step).
    """
    mined = [np.zeros(image.shape[:2], bool) for _ in heatmaps[0]]
    image = image.copy()
    for of_step in heatmaps:
        now = np.zeros(image.shape[:2], bool)  # line 4: F_t = ∅
        for c, h in enumerate(of_step):  # line 5
            r = region(h, fraction)  # line 7
            for u in pixels(r):
                now[u] = now[u] or r[u]  # line 8
                mined[c][u] = mined[c][u] or r[u]  # line 10
        for u in pixels(now):
            if now[u]:
                image[u] = mean_pixel  # line 11: I_{t+1} = I_t \ F_t
    return mined, image


def fused(regions, labels, saliency, threshold):
    """S = F ∪ B (§3.1).

    "We ignore three kinds of pixels for producing S: 1) those erased foreground regions of
    different categories which are in conflict; 2) those low-saliency pixels which lie within the
    object regions identified by AE; 3) those pixels that are not assigned semantic labels." And
    §4.1: "pixels whose saliency values are smaller than" the threshold are background.
    """
    mask = np.zeros(saliency.shape, int)
    for u in pixels(mask):
        claims = {label for r, label in zip(regions, labels, strict=True) if r[u]}
        low = saliency[u] < threshold
        if len(claims) > 1:
            mask[u] = VOID  # 1)
        elif claims and low:
            mask[u] = VOID  # 2)
        elif claims:
            (mask[u],) = claims
        elif low:
            mask[u] = 0
        else:
            mask[u] = VOID  # 3)
    return mask


# ------------------------------------------------------------- §3.2: prohibitive segmentation


def label_loss(tags, scores):
    """The squared label prediction loss (§3.1, §3.2; HCP, the paper's [30]): Σ_c (t_c − v_c)²."""
    return sum((float(t) - float(v)) ** 2 for t, v in zip(tags, scores, strict=True))


def cross_entropy(tags, scores):
    """−Σ_c (t_c log v_c + (1 − t_c) log(1 − v_c)): what a later reading has for the square."""
    return -sum(np.log(v if t else 1 - v) for t, v in zip(tags, scores, strict=True))


def j(f, mask, tags):
    """J(f(I; θ), S) = −1 / Σ_{c ∈ O^seg} |S_c| · Σ_{c ∈ O^seg} Σ_{u ∈ S_c} log f_{u,c}(I; θ).

    Without a labelled pixel, where the equation has 0/0, the image teaches nothing: 0.
    """
    count, total = 0, 0.0
    for c in [0, *tags]:  # O^seg, "in which background category is included"
        for u in pixels(mask):
            if mask[u] == c:
                count += 1
                total += math.log(f[u][c])
    return -total / count if count else 0.0


def weighed(f, scores):
    """[1, v] ⊗ f: "the appended element 1 is for weighting the background category"."""
    made = np.zeros(f.shape)
    for u in pixels(f):
        for c, weight in enumerate([1.0, *map(float, scores)]):
            made[u][c] = weight * float(f[u][c])
    return made


def online_mask(f, scores):
    """Ŝ = max{[1, v] ⊗ f(I; θ)}: the class of the largest weighed score, at every pixel."""
    maps = weighed(f, scores)
    mask = np.zeros(f.shape[:2], int)
    for u in pixels(mask):
        for c in range(f.shape[2]):
            if maps[u][c] > maps[u][mask[u]]:
                mask[u] = c
    return mask


def prohibited(f, scores, p):
    """The test policy: "we set those classification confidences that are smaller than p to zero and
    keep others unchanged, and apply them to weight the predicted segmentation score maps". The CRF
    that follows takes probabilities, so each pixel's sum to one again.
    """
    kept = [0.0 if v < p else float(v) for v in scores]
    maps = weighed(f, kept)
    for u in pixels(f):
        maps[u] /= sum(maps[u])
    return maps


# --------------------------------------------------------------------------- §4.1: evaluation


def ious(pairs, num_classes, unlabelled_is_wrong):
    """ "Pixel IoU" of each category over all images: TP / (TP + FP + FN); None where it is 0/0.

    Args:
      pairs: (truth, prediction) by image. Void pixels of the truth do not count. Pixels that the
        prediction leaves unlabelled miss their true class, or do not count either.
    """
    made = []
    for c in range(num_classes):
        tp = fp = fn = 0
        for truth, prediction in pairs:
            for u in pixels(truth):
                if truth[u] == VOID or (prediction[u] == VOID and not unlabelled_is_wrong):
                    continue
                tp += truth[u] == c and prediction[u] == c
                fp += truth[u] != c and prediction[u] == c
                fn += truth[u] == c and prediction[u] != c
        made.append(tp / (tp + fp + fn) if tp + fp + fn else None)
    return made


def mean(values):
    """ "Averaged on" the categories that are there, or None."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
