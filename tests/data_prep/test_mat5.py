"""The reader of MATLAB files reads what SciPy reads, and refuses the rest in words."""

import io
import pathlib
import random
import warnings

import numpy as np
import pytest
import scipy.io.matlab

from data_prep import mat5

MATLAB_S = pathlib.Path(scipy.io.matlab.__file__).parent / "tests/data"
"""Files that MATLAB wrote; SciPy brings them."""
MASK = (np.arange(35).reshape(5, 7) % 21).astype(np.uint8)


def saved(compressed=True, **fields):
    file = io.BytesIO()
    content = {"Boundaries": np.zeros([3, 1]), "Segmentation": MASK, "Text": "text"} | fields
    scipy.io.savemat(file, {"other": np.eye(3), "GTcls": content}, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "u8", "i8"])
def test_reads_what_scipy_writes(compressed, dtype):
    found = mat5.read_field(saved(compressed, Segmentation=MASK.astype(dtype)), "GTcls",
                            "Segmentation")  # fmt: skip
    np.testing.assert_array_equal(found, MASK)
    assert found.shape == MASK.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (0, 0), (2, 3, 4), (30, 500)])
def test_shapes(shape):
    values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    found = mat5.read_field(saved(Segmentation=values), "GTcls", "Segmentation")
    np.testing.assert_array_equal(found, values)


def test_reads_what_matlab_writes():
    """Every numeric field of every struct among SciPy's files, both byte orders."""
    seen = set()
    for path in sorted(MATLAB_S.glob("*struct*.mat")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = scipy.io.loadmat(path)
        for variable, value in content.items():
            names = getattr(value, "dtype", np.dtype(int)).names
            if variable.startswith("_") or not names or value.size != 1:
                continue
            for field in names:
                expected = value[field].item()
                if isinstance(expected, np.ndarray) and expected.dtype.kind in "iuf":
                    found = mat5.read_field(path.read_bytes(), variable, field)
                    np.testing.assert_array_equal(found, expected)
                    seen.add(path.name)
    assert len(seen) >= 4 and any("SOL2" in name for name in seen)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a MATLAB 5 file"),
        (b"MATLAB 7.3 MAT-file" + bytes(107) + b"HD", "not a MATLAB 5 file"),
        (saved()[:128], "no variable GTcls"),
        (saved()[:-30], "cut"),
        (saved(False)[:-30], "cut"),
        (saved(Segmentation="text"), "no array of numbers"),
        (saved(Segmentation=MASK * 1j), "no array of numbers"),
        (saved(Segmentation={"a": 1}), "no array of numbers"),
        (saved(Segmentation=np.array([["a", 1]], object)), "no array of numbers"),
    ],
)
def test_what_is_refused(data, words):
    with pytest.raises(ValueError, match=words):
        mat5.read_field(data, "GTcls", "Segmentation")


def test_missing_names_are_told():
    with pytest.raises(ValueError, match="no variable GTinst"):
        mat5.read_field(saved(), "GTinst", "Segmentation")
    with pytest.raises(ValueError, match="no field Categories"):
        mat5.read_field(saved(), "GTcls", "Categories")
    with pytest.raises(ValueError, match="no single struct"):
        mat5.read_field(saved(), "other", "Segmentation")


def test_a_bomb_is_not_unpacked():
    data = saved(Segmentation=np.zeros([5000, 5000], np.uint8))
    assert len(data) < 200_000
    with pytest.raises(ValueError, match="more than"):
        mat5.read_field(data, "GTcls", "Segmentation")


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_a_value_error_or_unseen(compressed):
    whole, rng = saved(compressed), random.Random(0)
    read = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(100, len(data))] = rng.randrange(256)
        try:
            mat5.read_field(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])]),
                            "GTcls", "Segmentation")  # fmt: skip
            read += 1
        except ValueError:
            pass
    assert read < 1500
