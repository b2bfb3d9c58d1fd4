"""What chooses δ without truth, against counting pixel by pixel."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aepsl_tf.mining.agreement import Agreement


@given(st.lists(arrays(bool, (4, 3, 5)), max_size=4))
def test_is_the_pooled_iou_of_each_threshold(images):
    """Of each image three regions, one a δ, and the salient area."""
    measured = Agreement((0.1, 0.3, 0.5))
    for *regions, salient in images:
        measured.add(regions, salient)
    results = measured.results()
    shares = []
    for index in range(3):
        both = sum((i[index] & i[3]).sum() for i in images)
        either = sum((i[index] | i[3]).sum() for i in images)
        shares.append(both / either if either else 0)
    assert list(results["by_threshold"]) == ["0.1", "0.3", "0.5"]
    np.testing.assert_allclose(list(results["by_threshold"].values()), shares)
    assert results["agreement"] == max(shares)
    assert results["threshold"] == (0.1, 0.3, 0.5)[shares.index(max(shares))]
