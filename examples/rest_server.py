"""A SavedModel behind `POST /v1/models/NAME:predict`, as TensorFlow Serving's REST speaks.

python examples/rest_server.py RUN/export/psl_plus_plus 8501

To try a model out where there is no TensorFlow Serving, and for tests, in its place: it knows no
batching, no versions but the highest, and no load. It listens to this machine alone.

https://www.tensorflow.org/tfx/serving/api_rest: row format (`instances` → `predictions`), column
format (`inputs` → `outputs`), `signature_name`, `{"b64": …}` for bytes, `{"error": …}` with 4xx.
"""

import base64
import contextlib
import http.server
import json
import os
import pathlib
import sys
import threading

import numpy as np

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # what masks are bit for bit prediction's with
import tensorflow as tf


@contextlib.contextmanager
def serving(base_path, port=0):
    """Gives (URL, the loaded model) of a servable's base path: of its highest version.

    Args:
      port: 0 takes one that is free.
    """
    versions = [int(path.name) for path in base_path.iterdir() if path.name.isdecimal()]
    model = tf.saved_model.load(str(base_path / str(max(versions))))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _handler(base_path.name, model))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/models/{base_path.name}", model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(name, model):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                if self.path != f"/v1/models/{name}:predict":
                    raise _RefusedError(404, f"Malformed request: POST {self.path}")
                status, answer = 200, predict(model, json.loads(body))
            except _RefusedError as error:
                status, answer = error.args[0], {"error": error.args[1]}
            except json.JSONDecodeError as error:
                status, answer = 400, {"error": f"JSON Parse error: {error}"}
            except tf.errors.InvalidArgumentError as error:
                status, answer = 400, {"error": error.message}
            encoded = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *args):
            pass

    return Handler


class _RefusedError(Exception):
    """(status, error) of an answer."""


def predict(model, body):
    """The answer to a request's JSON."""
    name = body.get("signature_name", "serving_default")
    if name not in model.signatures:
        raise _RefusedError(400, f'Serving signature name: "{name}" not found in signature def')
    signature = model.signatures[name]
    specs = signature.structured_input_signature[1]
    if ("instances" in body) == ("inputs" in body):
        raise _RefusedError(400, "Request must have one of 'instances' and 'inputs'")
    if "instances" in body:
        rows = [row if _has_names(row, specs) else {one: row for one in specs}
                for row in body["instances"]]  # fmt: skip
        given = {key: [row[key] for row in rows] for key in specs}
    else:
        columns = body["inputs"]
        given = columns if _has_names(columns, specs) else {one: columns for one in specs}
    try:
        tensors = {k: tf.constant(_bytes(given[k]), spec.dtype) for k, spec in specs.items()}
    except (ValueError, TypeError) as error:
        raise _RefusedError(400, f"JSON does not match the signature: {error}") from None
    outputs = {key: _plain(value) for key, value in signature(**tensors).items()}
    if "inputs" in body:
        return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}
    batches = {len(value) for value in outputs.values()}
    assert len(batches) == 1, "row format needs outputs of one batch"
    rows = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return {"predictions": rows if len(outputs) > 1 else [next(iter(r.values())) for r in rows]}


def _has_names(value, specs):
    return isinstance(value, dict) and value.keys() == specs.keys()


def _bytes(value):
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    return [_bytes(one) for one in value] if isinstance(value, list) else value


def _plain(tensor):
    return np.asarray(tensor).tolist()


def main(base_path, port="8501"):
    with serving(pathlib.Path(base_path).resolve(), int(port)) as (url, _):
        print(f"serving {url} (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
