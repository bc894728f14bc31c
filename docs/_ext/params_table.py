"""The directive `params-table`: each Param of the estimator with its default and meaning, from the declarations."""

import re

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble import params as declarations

# Headings in order, each with the mixins of params.py whose Params it lists.
GROUPS = {
    "Ensemble and bags": ("HasNumMembers", "HasBagging", "HasVotingStrategy"),
    "Images and classes": ("HasDataShape", "HasResizeImages"),
    "Network of a member": ("HasNetwork",),
    "Training of a member": ("HasOptimization",),
    "Running a fit": ("HasExecution",),
    "Output columns for the votes": ("HasVoteCols",),
}
OTHERS = "Shared with Spark's classifiers"


class ParamsTable(SphinxDirective):
    """One section with a table for each group; the Params that Spark's classifiers have too come last."""

    def run(self):
        """Build the sections."""
        classifier = CNNEnsembleClassifier()
        params = {param.name: param for param in classifier.params}
        lines = []
        for title, mixins in GROUPS.items():
            names = [name for mixin in mixins for name in vars(getattr(declarations, mixin)) if name in params]
            lines += _table(title, classifier, [params.pop(name) for name in names])
        grouped = {mixin for mixins in GROUPS.values() for mixin in mixins}
        for mixin in type(classifier).__mro__:
            own = [name for name in vars(mixin) if name in params]
            declares = own and mixin.__module__ == declarations.__name__ and mixin.__name__.startswith("Has")
            if declares and mixin.__name__ not in grouped:
                raise ExtensionError(f"{mixin.__name__} declares {own}: add it to GROUPS in {__file__}.")
        lines += _table(OTHERS, classifier, list(params.values()))
        container = nodes.section()
        source, _ = self.get_source_info()
        self.state.nested_parse(StringList(lines, source=source), 0, container, match_titles=1)
        return container.children


def _table(title, classifier, params):
    lines = [f"## {title}", "", "| Param | default | meaning |", "|---|---|---|"]
    for param in params:
        default = f"`{classifier.getOrDefault(param)!r}`" if classifier.hasDefault(param) else "unset"
        lines.append(f"| `{param.name}` | {default} | {_sentence(param.doc)} |")
    return [*lines, ""]


def _sentence(doc):
    """A Param's documentation as Markdown: its quoted values become code."""
    sentence = re.sub(r"([*_<|])", r"\\\1", doc.strip().rstrip("."))
    sentence = re.sub(r"(?<!\w)('\w*')(?!\w)", r"`\1`", sentence)
    return f"{sentence[0].upper()}{sentence[1:]}."


def setup(app):
    """Register the directive."""
    app.add_directive("params-table", ParamsTable)
    return {"parallel_read_safe": True}
