"""The page at `/`: choose a model, type, see its answer. It asks the server's own REST interface."""

import json
from importlib.resources import files
from typing import Any, NamedTuple

from trellis.components.saved_model.versions import read_metadata
from trellis.components.types import JSON
from trellis.serve.server.models import Models, Version
from trellis.serve.server.requests import Refused, brief, plain

FOLDER = "/page/"
MODELS = "/page/models"  # the list of models, for which TensorFlow Serving has no address
TYPES = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),  # the page of a newer release must not run the script of an older one
)
EXAMPLES = 8  # requests of one row that are offered for a signature
LONGEST = 1_000  # characters of JSON of such a request


class File(NamedTuple):
    """The answer to a path of the page: its media type and its bytes."""

    content_type: bytes
    content: bytes


class Page:
    """The files of the page, and the list of models that it offers.

    Args:
        models: the models.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        folder = files("trellis.serve") / "page"
        self._files = {
            "/" if file.name == "index.html" else FOLDER + file.name: File(TYPES[suffix], file.read_bytes())
            for file in folder.iterdir()
            if (suffix := file.name.rpartition(".")[2]) in TYPES
        }

    def find(self, method: str, path: str) -> File | None:
        """Return the answer to a path; None if it is not a path of the page.

        Raises:
            Refused: the page has no such file, or the method is neither GET nor HEAD.
        """
        if path != "/" and not path.startswith(FOLDER):
            return None
        if method not in ("GET", "HEAD"):
            raise Refused("INVALID_ARGUMENT", f"Malformed request: {brief(method)} {brief(path)}")
        if path == MODELS:
            return File(b"application/json", json.dumps(self._list(), ensure_ascii=False).encode("utf-8", "replace"))
        if path not in self._files:
            raise Refused("NOT_FOUND", f"the page has no file {brief(path)}")
        return self._files[path]

    def _list(self) -> JSON:
        """Return what the page needs to know about each model."""
        return {"models": [self._describe(name) for name in sorted(self._models.names())]}

    def _describe(self, name: str) -> JSON:
        try:
            version = self._models.find(name)
        except Refused:
            newest = max(self._models.status(name).items())[1]
            return {"name": name, "problem": newest.message or newest.name.lower()}
        return {"name": name, "version": str(version.number), **_facts(version), "examples": _examples(version)}


def _facts(version: Version) -> JSON:
    """Return what `metadata.json` says of a version: its data, labels and scores, and what its tokens are."""
    metadata = read_metadata(version.folder)
    config = metadata.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    data = data if isinstance(data, dict) else {}
    metrics = metadata.get("metrics")
    scores = metrics.items() if isinstance(metrics, dict) else ()
    final = {name: value for name, value in scores if name.startswith("test/") and name.count("/") == 1}
    return {
        "data": data.get("name"),
        "unit": data.get("unit"),
        "labels": metadata.get("labels", []),
        "scores": {name: value for name, value in final.items() if isinstance(value, int | float)},
    }


def _examples(version: Version) -> dict[str, list[dict[str, Any]]]:
    """Return requests of one row to each signature, from those that the version was warmed up with."""
    examples = {}
    for signature, inputs in version.examples.items():
        rows = min((len(array) for array in inputs.values() if array.ndim), default=1)
        requests = [
            {name: plain(array[row : row + 1] if array.ndim else array) for name, array in inputs.items()}
            for row in range(min(rows, EXAMPLES))
        ]
        examples[signature] = [request for request in requests if len(json.dumps(request)) <= LONGEST]
    return examples
