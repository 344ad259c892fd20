"""How Sphinx builds the site: ``make docs``."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]
# Docstrings are read by importing the package, which needs no accelerator.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import sparse_regimes  # noqa: E402

project = "sparse_regimes"
author = "The sparse_regimes authors"
version = release = sparse_regimes.__version__

extensions = [
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx.ext.viewcode",
  # Of this folder.
  "mathml",
  "own_names",
  "own_pages",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath"]
# Links to headings, by the names that GitHub gives them.
myst_heading_anchors = 4
# A page may start at a lower heading where it is a file of another place.
suppress_warnings = ["myst.header"]

autodoc_default_options = {"members": True, "show-inheritance": False}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 72
napoleon_numpy_docstring = False
napoleon_use_rtype = False
# Fields that a docstring lists are a table of it, no entries of their own.
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"sparse_regimes {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
