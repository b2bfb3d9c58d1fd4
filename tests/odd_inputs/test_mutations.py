"""Damaged inputs by the thousand: none ends in a traceback, none is used that must not be."""

import campaign
import pytest


@pytest.mark.parametrize(
    ("cases", "seed"), [(2_000, 0), pytest.param(30_000, 1, marks=pytest.mark.long)]
)
def test_no_damaged_input_is_used(tmp_path, cases, seed):
    counts, faults = campaign.run(cases, seed, tmp_path)
    print(campaign.table(counts))
    assert not faults, "\n".join(f"{door}: {outcome}: {why}\n    {what}"
                                 for door, outcome, what, why in faults[:20])  # fmt: skip
    assert sum(sum(c[o] for o in campaign.OUTCOMES) for c in counts.values()) > 0.99 * cases
    assert all(c["refused"] for c in counts.values())  # each door says no to something
