"""The documentation site: `make docs` builds it into build/docs/html."""

import os
import sys
from pathlib import Path

# Notebooks show what Trellis prints, not what TensorFlow logs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

import trellis

project = "Trellis"
copyright = "the Trellis authors"
version = release = trellis.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "command_help",
    "docstrings",
    "local_links",
    "mathml",
    "public_names",
]
exclude_patterns = ["examples", "extensions"]

# Pages

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Notebooks: executed when they changed, in an empty folder, by this interpreter

nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parents[1] / "build" / "docs" / "notebooks")
nb_execution_in_temp = True
nb_execution_timeout = 900
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"
suppress_warnings = ["mystnb.unknown_mime_type"]
# `make docs ARGS="-t fast"` runs two tutorials, in half a minute each; cells that were not run have no lexer.
if tags.has("fast"):  # noqa: F821
    tutorials = Path(__file__).parent.joinpath("tutorials").glob("*.md")
    nb_execution_excludepatterns = [str(path) for path in tutorials if path.stem not in ("ibm1", "retrieval")]
    suppress_warnings += ["myst-nb.lexer"]

# API reference

default_role = "code"  # docstrings mark code as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Call arguments", "params_style")]
nitpicky = True
# Names of other libraries, and the aliases of `components/types.py`: no inventories are fetched.
nitpick_ignore_regex = [
    ("py:.*", r"(keras|tensorflow|tf|np|numpy|collections|pathlib|enum|abc|os|typing|argparse)\..*"),
    ("py:.*", r"(keras|Any|FilePath|Path|Callable|Iterable|Iterator|Mapping|Sequence|optional|ndarray|None|PathLike)"),
    ("py:.*", r"(Layer|Model|Loss|Optimizer|Initializer|NDArray|ArrayLike|Module|RNN|LSTM|GRU|SimpleRNN|Embedding)"),
]

# HTML

html_theme = "furo"
html_title = f"Trellis {release}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True
