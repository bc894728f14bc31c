"""What the benchmarks share: a session, the machine in a line, and a section of RESULTS.md a script."""

import datetime
import os
import platform
import re
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

from pyspark.sql import SparkSession

RESULTS = Path(__file__).parent / "RESULTS.md"


def session(master="local[2]"):
    """A session that says nothing but errors."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.master(master).config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def machine():
    """Processor, cores, memory and versions."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search("model name\\s*: (.*)", info)
    memory = int(re.search("MemTotal:\\s*(\\d+)", Path("/proc/meminfo").read_text()).group(1)) >> 20
    names = ("pyspark", "tensorflow", "keras", "numpy", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    bfloat16 = "with" if "avx512_bf16" in info else "without"
    processor = model.group(1) if model else platform.machine()
    return (
        f"{datetime.date.today()}, {processor} ({bfloat16} AVX512-BF16), {os.cpu_count()} cores, {memory} GiB; "
        f"Python {platform.python_version()}, {versions}."
    )


def timed(work):
    """Seconds that a call takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def alternate(ways, pairs=5):
    """Call each of `ways` (name -> callable) in turn, once to warm up and then `pairs` times; what they return."""
    found = {name: [] for name in ways}
    for turn in range(pairs + 1):
        for name, measure in ways.items():
            value = measure()
            print(f"{turn or 'warm-up'}: {name}: {value:.4g}", flush=True)
            if turn:
                found[name].append(value)
    return found


def spread(values, form=",.1f"):
    """Median (minimum to maximum)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratio(ours, theirs):
    """Of values measured in turn, pair by pair: median (minimum to maximum)."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)], ".2f")


def record(title, claim, table):
    """Put a section into RESULTS.md, in place of the one of that title."""
    section = f"## {title}\n\n{claim}\n\n{machine()}\n\n{table.strip()}\n"
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nWritten by the scripts beside it, from runs.\n"
    sections = re.split(r"(?m)^(?=## )", text)
    kept = [part.rstrip() + "\n" for part in sections if not part.startswith(f"## {title}\n")]
    RESULTS.write_text("\n".join([*kept, section]))
    print(section)
