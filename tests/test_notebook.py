"""examples/tour.ipynb runs on a run as make demo leaves it, and holds no outputs."""

import pathlib

import pytest

NOTEBOOK = pathlib.Path(__file__).parents[1] / "examples/tour.ipynb"
nbformat, nbclient, _ = (
    pytest.importorskip(name, reason=f"{name} is not installed: the notebook is not tried")
    for name in ("nbformat", "nbclient", "ipykernel")
)


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_stripped(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_it_runs(notebook, finished, tmp_path, monkeypatch):
    """In the folder beside `runs`, as a notebook of `examples` does."""
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(finished.root)
    (tmp_path / "examples").mkdir()
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path / "examples"}}
    )
    client.execute()
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [any("image/png" in o.get("data", {}) for o in cell.outputs) for cell in codes]
    assert pictures == [False, True, True, True, True, False]
    assert codes[-1].outputs[-1]["data"]["text/plain"] == "True"
