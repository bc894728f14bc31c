"""The memory that this process takes."""

import contextlib
import re
from pathlib import Path


def peak_memory():
    """The most memory in bytes that this process has had since its start, or since `forget_peak_memory`."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


def forget_peak_memory():
    """Set the peak to what the process has now; without this right, the peak stays."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@contextlib.contextmanager
def memory_grows_less_than(size):
    """Check that this process never has `size` bytes more inside the block than before it."""
    forget_peak_memory()
    before = peak_memory()
    yield
    assert peak_memory() - before < size
