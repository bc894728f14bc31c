"""The documentation's settings; `make docs` builds it, offline."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent / "_ext")]

import spark_cnn_ensemble

project = "spark_cnn_ensemble"
author = "the spark_cnn_ensemble authors"
version = release = spark_cnn_ensemble.__version__

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
smartquotes = False  # 'disjoint' is a value, to be read as it is typed
autodoc_typehints = "none"  # numpydoc's sections name the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Members that pyspark.ml documents, and types in plain words, have no page here.
nitpicky = False

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
html_sidebars = {"getting_started": [], "limits": [], "changelog": [], "params": [], "command_line": []}
copyright = "the spark_cnn_ensemble authors, Apache-2.0"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
