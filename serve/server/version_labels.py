"""The labels of versions, such as `stable`, from a `models.config` of TensorFlow Serving."""

from pathlib import Path

from trellis.components.errors import InputError, first_line
from trellis.components.types import FilePath


def labels_of(path: FilePath) -> dict[str, dict[str, int]]:
    """Read the version labels of each model in a `models.config`, a text protobuf that TensorFlow Serving reads too.

    Returns:
        `{model: {label: version}}`.

    Raises:
        InputError: the file cannot be read or parsed.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        config = text_format.Parse(Path(path).read_text("utf-8"), model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise InputError(f"{path}: not a models.config ({first_line(error, 200)})") from None
    return {model.name: dict(model.version_labels) for model in config.model_config_list.config}
