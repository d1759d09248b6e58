"""Names of metrics and parameters as MLflow takes them: letters, digits and `_-. :/`, no more than 250 of them."""

import hashlib
import re

LONGEST = 250
_OTHER = re.compile(r"[^\w\-. /]", re.ASCII)
_CODE = re.compile(r"(?::[0-9A-F]{2})+")


def encoded(name: str) -> str:
    """Return a name for MLflow; `R&D` becomes `R:26D`, the bytes of a character in hexadecimal after colons.

    Names that MLflow takes, and that have no colon, stay as they are. `decoded` is the inverse, except for names
    that are too long: a hash replaces their ends.
    """
    name = _OTHER.sub(lambda match: _bytes(match[0]), name)
    # MLflow keeps files under such names, where `a//b`, `./a` and `a/..` would be others.
    name = "/".join(_bytes(part) if part in (".", "..") else part for part in name.split("/"))
    name = re.sub(r"^/|/$|(?<=/)/", ":2F", name)
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name


def decoded(name: str) -> str:
    """Return the name that was encoded."""
    return _CODE.sub(lambda match: bytes.fromhex(match[0].replace(":", "")).decode("utf-8", "replace"), name)


def _bytes(text: str) -> str:
    return "".join(f":{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
