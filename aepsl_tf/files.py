"""Files as every room writes and names them: whole or not at all, JSON, and what is inside."""

import hashlib
import json
import os
import pathlib


def write_atomic(path, text):
    """Writes a text file so that it is either the old one or the whole new one."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def to_json(value):
    """JSON as this project writes it: readable, and the same bytes for the same value."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def digest(path):
    """sha256 of a file, or of a folder's relative names and file contents."""
    path = pathlib.Path(path)
    total = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.name if file == path else str(file.relative_to(path))
        with open(file, "rb") as content:
            total.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
