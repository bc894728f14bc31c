"""The examples of docstrings and of the guide's pages, run as doctests."""

import doctest
import re
from pathlib import Path

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def text_of(page):
    """The Markdown of a page of the guide."""
    return (Path(__file__).parents[2] / "docs" / "guide" / page).read_text()


def parts(page):
    """The code of a page of the guide before its first section, and {heading: code} of those that have any."""
    first, *others = re.split(r"^## ", text_of(page), flags=re.MULTILINE)
    codes = {part.partition("\n")[0]: code_of(part) for part in others}
    return code_of(first), {heading: code for heading, code in codes.items() if code}


def sections(page):
    """{heading: doctest} of every section of a page of the guide that has examples, begun by those before the first."""
    start, codes = parts(page)
    return {heading: doctest_of(start + code, f"{page}: {heading}") for heading, code in codes.items()}


def doctest_of(code, name):
    return doctest.DocTestParser().get_doctest(code, {}, name, name, 0)


def code_of(text):
    """The blocks of Python code in Markdown."""
    return "".join(f"{block}\n" for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run(case, names):
    """Run a doctest, which adds its names to `names`; what differs from what it shows fails the test."""
    case.globs = names
    report = []
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(case, out=report.append, clear_globs=False).failed
    assert not failed, "".join(report)
