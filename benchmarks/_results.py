"""RESULTS.md: one row of the index and one section per script."""

import datetime
import math
import os
import platform
import re
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _timing import seconds_of

RESULTS = Path(__file__).parent / "RESULTS.md"
_BEGUN = time.monotonic()


def table(columns, rows):
    """Rows of cells as Markdown."""
    head, *body = (f"| {' | '.join(map(str, cells))} |" for cells in (columns, *rows))
    return "\n".join([head, f"|{'---|' * len(columns)}", *body])


def show(row):
    """Print a row of a table as soon as it is measured."""
    print(*row, sep=" | ", flush=True)


def record(script, doc, figure, *blocks):
    """Write a script's section and its row of the index into RESULTS.md, in place of those of its last run.

    Parameters
    ----------
    script : str
        `__file__` of the script.
    doc : str
        Its docstring. The first line is the section's title; the paragraph that starts with "Claim:" is in the index.
    figure : str
        The main figure, for the index.
    *blocks : str
        Tables and sentences, in Markdown.
    """
    name, minutes = Path(script).name, math.ceil((time.monotonic() - _BEGUN) / 60)
    title, text = (part.strip() for part in doc.split("\n\n", 1))
    title = title.rstrip(".")
    claim = " ".join(re.search(r"(?s)^Claim: (.*?)\.(?:\n\n|$)", text).group(1).split())
    section = "\n\n".join([f"## {title}", f"Script: `{name}`", text, machine(), *blocks])
    row = f"| [`{name}`](#{anchor(title)}) | {claim} | {figure} | {minutes} |"

    head, *sections = re.split(r"(?m)^(?=## )", RESULTS.read_text())
    head = _replaced(head.rstrip().split("\n"), f"| [`{name}`]", row)
    sections = _replaced([part.rstrip() for part in sections], f"## {title}\n", section)
    RESULTS.write_text("\n\n".join(["\n".join(head), *sections]) + "\n")
    print(section)


def _replaced(parts, beginning, new):
    """The parts with `new` in place of the one that begins so, or at the end if none does."""
    found = [part.startswith(beginning) for part in parts]
    if not any(found):
        return [*parts, new]
    return [new if is_old else part for part, is_old in zip(parts, found, strict=True)]


def anchor(title):
    """The anchor that code hosts and MyST give to a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def machine():
    """Date, processor, cores, how fast they multiply matrices, memory and versions."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search("model name\\s*: (.*)", info)
    memory = int(re.search("MemTotal:\\s*(\\d+)", Path("/proc/meminfo").read_text()).group(1)) >> 20
    names = ("pyspark", "tensorflow", "keras", "numpy", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    bfloat16 = ("with" if "avx512_bf16" in info else "without") + " AVX512-BF16"
    bfloat16 += " and AMX" if "amx_bf16" in info else ""
    processor = model.group(1) if model else platform.machine()
    return (
        f"{datetime.date.today()}, {processor} ({bfloat16}), {os.cpu_count()} cores ({product():.0f} "
        f"GFLOP/s together), {memory} GiB; "
        f"Python {platform.python_version()}, {versions}."
    )


def product(side=4096):
    """GFLOP/s of numpy's float32 product of two matrices on all cores, the best of five; hosts of one name differ."""
    one = np.ones((side, side), np.float32)
    return 2 * side**3 / min(seconds_of(np.dot, one, one) for _ in range(5)) / 1e9
