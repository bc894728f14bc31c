"""How notebooks are read for the documentation: without widgets, whose scripts would come from another host.

The notebooks' widgets are the progress bars of fits.
"""

import nbformat

VIEW = "application/vnd.jupyter.widget-view+json"


def read(text):
    """A notebook from its JSON; conf.py names this function as the reader."""
    notebook = nbformat.reads(text, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if VIEW not in output.get("data", {})]
    return notebook
