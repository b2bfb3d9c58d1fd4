"""A regression forest as plain arrays: read from a file that cannot execute code, run by NumPy."""

import dataclasses

import numpy as np

_DTYPES = {"roots": np.int32, "child": np.int32, "feature": np.uint8, "threshold": np.float32,
           "value": np.float32}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Forest:
    """T trees with n nodes in all; an inner node's children lie side by side, after it.

    Attributes:
      roots: int32 `[T]`, each tree's first node.
      child: int32 `[n]`, the left child, the right one being the next node; a leaf names itself.
      feature: uint8 `[n]`, the column that an inner node asks for; 0 at leaves.
      threshold: float32 `[n]`, up to it an inner node sends left; +∞ at leaves.
      value: float32 `[n]`, a leaf's answer; 0 at inner nodes.
    """

    roots: np.ndarray
    child: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    value: np.ndarray

    def predict(self, rows):
        """The mean answer of all trees: float32 `[N, D]` → float64 `[N]`."""
        rows = np.ascontiguousarray(rows, np.float32)
        flat, starts = rows.ravel(), np.arange(len(rows)) * rows.shape[1]
        # Trees along the first axis: neighbours in memory then walk the same tree. A leaf's
        # threshold keeps its walkers where they are.
        node = np.repeat(self.roots[:, None], len(rows), axis=1)
        while True:
            right = flat[starts + self.feature[node]] > self.threshold[node]
            ahead = self.child[node] + right
            if (ahead == node).all():
                return self.value[node].mean(axis=0, dtype=np.float64)
            node = ahead

    def check(self, columns):
        """Raises ValueError unless every walk over `columns` features stays inside and ends."""
        for name, array in self.arrays().items():
            if array.ndim != 1 or array.dtype != _DTYPES[name]:
                raise ValueError(f"its {name} are {array.dtype} {list(array.shape)}")
        inner = self.child != np.arange(len(self.child))
        lengths = {len(a) for a in (self.child, self.feature, self.threshold, self.value)}
        if len(lengths) != 1 or not len(self.roots) or not len(self.child):
            raise ValueError("its arrays do not belong together")
        nodes = len(self.child)
        # Children lie after their parents, so a walk cannot turn in circles.
        if (
            (self.child[inner] <= np.flatnonzero(inner)).any()
            or (self.child[inner] + 1 >= nodes).any()
            or (self.roots < 0).any()
            or (self.roots >= nodes).any()
            or (self.feature >= columns).any()
        ):
            raise ValueError("a node points outside its tree")
        if not (
            np.isfinite(self.value).all()
            and np.isfinite(self.threshold[inner]).all()
            and (self.threshold[~inner] == np.inf).all()
        ):
            raise ValueError("a node holds no finite number")

    def arrays(self):
        """The fields by name, to be saved."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def from_trees(trees):
    """Lays scikit-learn trees (`estimator.tree_`) out as one `Forest`."""
    parts = {name: [] for name in ("roots", "child", "feature", "threshold", "value")}
    start = 0
    for tree in trees:
        order = _siblings_together(tree.children_left, tree.children_right)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        left = tree.children_left[order]
        leaf = left < 0
        child = np.where(leaf, np.arange(len(order)), place[left])
        threshold = np.where(leaf, np.inf, _down_to_float32(tree.threshold[order]))
        parts["roots"].append(np.array([start]))
        parts["child"].append(start + child)
        parts["feature"].append(np.where(leaf, 0, tree.feature[order]))
        parts["threshold"].append(threshold)
        parts["value"].append(np.where(leaf, tree.value[order, 0, 0], 0))
        start += len(order)
    return Forest(**{
        name: np.concatenate(part).astype(_DTYPES[name]) for name, part in parts.items()
    })  # fmt: skip


def _siblings_together(left, right):
    """A tree's nodes from the root down, level by level: both children of a node in a row."""
    order, level = [np.zeros(1, np.int64)], np.zeros(1, np.int64)
    while len(level):
        inner = level[left[level] >= 0]
        level = np.stack([left[inner], right[inner]], axis=1).ravel()
        order.append(level)
    return np.concatenate(order)


def _down_to_float32(values):
    """Rounds towards −∞, so that a float32 is at most the result exactly if it was before."""
    rounded = values.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > values, below, rounded)
