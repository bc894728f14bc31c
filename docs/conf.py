"""The documentation's settings; `make docs` builds it, offline."""

import sys
from pathlib import Path

from spark_cnn_ensemble import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# Sphinx reads pages from its own folder only.
if not (HERE / "notebooks").exists():
    (HERE / "notebooks").symlink_to("../notebooks")

project = "spark_cnn_ensemble"
author = "the spark_cnn_ensemble authors"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "params_table",
    "repository_links",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# Notebooks are shown with the outputs that they keep.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

default_role = "py:obj"
highlight_language = "none"  # blocks that name no language are commands and output
smartquotes = False  # 'disjoint' is a value, to be read as it is typed
autodoc_typehints = "none"  # numpydoc's sections name the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Members that pyspark.ml documents, and types in plain words, have no page here.
nitpicky = False

toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "spark_cnn_ensemble"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"*": []}  # top-level pages have no section to navigate
copyright = "the spark_cnn_ensemble authors, Apache-2.0"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def without_spark_versions(app, what, name, obj, options, lines):
    """Remove Spark's "Added in version 1.3.0", which reads as a version of this package."""
    lines[:] = [line for line in lines if not line.lstrip().startswith((".. versionadded::", ".. versionchanged::"))]


def setup(app):
    """Follow every docstring that is shown."""
    app.connect("autodoc-process-docstring", without_spark_versions)
