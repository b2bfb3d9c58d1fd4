"""How well mined regions meet the salient area: what tells a good δ from a bad one without truth.

Too high a δ leaves much of what is salient unmined, too low a one mines what is not salient. Both
lower the intersection over union, pooled over the training images.
"""

import numpy as np

CANDIDATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""The δ that --threshold=auto chooses among."""


class Agreement:
    """Counts for several δ at once.

    Args:
      thresholds: δ.
    """

    def __init__(self, thresholds):
        self.thresholds = tuple(thresholds)
        self._both, self._any = np.zeros([2, len(self.thresholds)], np.int64)

    def add(self, regions, salient):
        """Counts one image.

        Args:
          regions: bool `[H, W]` for each δ, all classes and steps merged.
          salient: bool `[H, W]`, what is not background by the saliency map (§3.1).
        """
        for index, region in enumerate(regions):
            self._both[index] += np.count_nonzero(region & salient)
            self._any[index] += np.count_nonzero(region | salient)

    def results(self):
        """{"threshold": the best δ, "agreement": its IoU 0..1, "by_threshold": δ → IoU}; of equal
        ones the lowest δ. Where nothing is salient and nothing mined, 0.
        """
        share = (self._both / np.maximum(self._any, 1)).tolist()
        best = share.index(max(share))
        return {
            "threshold": self.thresholds[best],
            "agreement": share[best],
            "by_threshold": {
                str(δ): value for δ, value in zip(self.thresholds, share, strict=True)
            },
        }
