"""What the benchmarks share: a session, the machine in a line, and a section of RESULTS.md a script."""

import datetime
import os
import platform
import re
import sys
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


def record(title, claim, table):
    """Put a section into RESULTS.md, in place of the one of that title."""
    section = f"## {title}\n\n{claim}\n\n{machine()}\n\n{table.strip()}\n"
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n\nWritten by the scripts beside it, from runs.\n"
    sections = re.split(r"(?m)^(?=## )", text)
    kept = [part.rstrip() + "\n" for part in sections if not part.startswith(f"## {title}\n")]
    RESULTS.write_text("\n".join([*kept, section]))
    print(section)
