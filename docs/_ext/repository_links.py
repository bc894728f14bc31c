"""Links from a page to a file of the repository outside docs/, such as ../../notebooks/quickstart.ipynb.

They are written so that they work on a code host. In the built documentation they lead to the page that shows the file.
"""

from pathlib import Path

from sphinx.addnodes import pending_xref

REPOSITORY = Path(__file__).resolve().parents[2]

# Notebooks have pages of the same name, so they need no entry here.
PAGES = {
    "README": "index",
    "CHANGELOG": "changelog",
    "CONTRIBUTING": "contributing",
    "SECURITY": "security",
    "benchmarks/RESULTS": "results",
}


def lead_to_pages(app, doctree):
    """Replace the paths of files outside docs/ by names of pages; a file without a page stays, and Sphinx warns."""
    for link in doctree.findall(pending_xref):
        target = Path(link.get("reftarget") or "")
        if link.get("refdomain") == "doc" and target.is_absolute() and target.is_relative_to(REPOSITORY):
            name = target.relative_to(REPOSITORY).as_posix()
            link["reftarget"] = PAGES.get(name, name)


def setup(app):
    """Follow every page that was read."""
    app.connect("doctree-read", lead_to_pages)
    return {"parallel_read_safe": True}
