"""MODEL_CARD.md: its numbers are docs/results.md's, its files exist."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
CARD = (ROOT / "MODEL_CARD.md").read_text()


def test_numbers_are_those_of_the_results():
    numbers = re.findall(r"(?<![\d.])\.\d{3}\b", CARD)
    results = (ROOT / "docs/results.md").read_text()
    assert len(numbers) >= 10
    assert not [number for number in numbers if number not in results]


def test_files_exist():
    files = re.findall(r"\]\(([^)]+)\)|`([\w/]+\.\w+)`", CARD)
    assert len(files) >= 5
    assert all((ROOT / (link or name)).exists() for link, name in files)
