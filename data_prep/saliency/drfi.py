"""DRFI: saliency of regions, learned (Jiang et al., CVPR 2013), the paper's background cue (§4.1).
"""

import cv2
import numpy as np

from data_prep.saliency import descriptors

SIDE = 320
SIGMA, FINEST, SMALLEST = 0.8, 40, 40
SCALES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


def shrink(image):
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def segment(image):
    graph = cv2.ximgproc.segmentation.createGraphSegmentation(SIGMA, FINEST, SMALLEST)
    bgr = np.ascontiguousarray(image[..., ::-1])
    return np.unique(graph.processImage(bgr), return_inverse=True)[1].reshape(image.shape[:2])


def merge(sums, scale):
    """Felzenszwalb's predicate on the graph of regions."""
    area = sums.table[:, 0] / sums.table[:, 0].sum()
    one, other = np.nonzero(np.triu(sums.borders))
    lab = sums.table[:, 2 + 3 : 2 + 6] / sums.table[:, :1]
    weight = np.linalg.norm(lab[one] - lab[other], axis=1)
    order = np.argsort(weight, kind="stable")
    parent = list(range(len(area)))
    size, limit = area.tolist(), (scale * 0.01 / area).tolist()

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b, w in zip(one[order].tolist(), other[order].tolist(), weight[order].tolist()):
        a, b = find(a), find(b)
        if a != b and w <= limit[a] and w <= limit[b]:
            parent[b] = a
            size[a] += size[b]
            limit[a] = w + scale * 0.01 / size[a]
    roots = np.array([find(i) for i in range(len(area))])
    return np.unique(roots, return_inverse=True)[1]
