"""Whether a tracking server responds."""

import http.client
import urllib.error
import urllib.parse
import urllib.request

from trellis.components.errors import InputError

ANSWER_WITHIN = 5  # seconds


def check(uri: str) -> None:
    """Fail before training, not after it, if a tracking server does not respond.

    Raises:
        InputError: nothing answers there.
    """
    if urllib.parse.urlsplit(uri).scheme not in ("http", "https"):
        return
    try:
        urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=ANSWER_WITHIN).close()
    except urllib.error.HTTPError:
        pass  # The server responds; MLflow reports what the error means.
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = (cause.strerror if isinstance(cause, OSError) else None) or cause
        raise InputError(f"tracking.uri={uri}: no MLflow server answers there ({reason})") from None
