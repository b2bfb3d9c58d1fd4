"""Asks a served model for masks: a client of TensorFlow Serving's REST, the standard library alone.

python examples/segment.py http://localhost:8501/v1/models/psl_plus_plus a.jpg b.png

Prints a line a picture: its size and the share of each class among its pixels. `segment` gives the
masks themselves.
"""

import base64
import collections
import json
import pathlib
import sys
import urllib.error
import urllib.request


def segment(url, pictures, timeout=60):
    """The masks of encoded pictures of any sizes, in one request.

    Args:
      url: of the model, such as http://localhost:8501/v1/models/psl_plus_plus.
      pictures: the bytes of picture files.
      timeout: seconds.

    Returns:
      For each picture {"mask": rows of class ids, "scores": v by class, if the model has them}.

    Raises:
      ValueError: the server refuses the pictures; its own words.
      OSError: there is no such server.
    """
    body = {
        "signature_name": "serve_bytes",
        "instances": [{"b64": base64.b64encode(picture).decode()} for picture in pictures],
    }
    request = urllib.request.Request(
        f"{url}:predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            predictions = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(json.load(error)["error"]) from None
    return [_without_padding(prediction) for prediction in predictions]


def _without_padding(prediction):
    """A request's masks have the size of its largest picture; `size` says which part is meant."""
    height, width = prediction.pop("size")
    mask = [row[:width] for row in prediction["mask"][:height]]
    return prediction | {"mask": mask}


def main(url, *files):
    found = segment(url, [pathlib.Path(file).read_bytes() for file in files])
    for file, one in zip(files, found, strict=True):
        mask = one["mask"]
        counts = collections.Counter(id_ for row in mask for id_ in row)
        pixels = len(mask) * len(mask[0])
        shares = ", ".join(f"{id_}: {n / pixels:.1%}" for id_, n in sorted(counts.items()))
        print(f"{file}: {len(mask[0])} × {len(mask)}, {shares}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
