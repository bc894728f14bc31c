"""Parts of a training step.

Claim: Convolutions take at least 75 % of a training step of the default network in float32, so that it can be made
much faster only by faster convolutions.

The steps are those of the bare loop of training_against_bare_loop.py on one thread: images of 28x28, batches of 50, no
shifts. TensorFlow's profiler gives the time in each operation; what the profiler leaves out is the rest. Microseconds
per image: 5 processes per precision, in turn, each traced for 300 steps after a warm-up; median (minimum to maximum).
GFLOP/s count 2 for a multiplication and an addition; the limit is the product of two matrices of 2,048 x 2,048, timed
in the same process.

Needs: the library alone.
Takes: 3 minutes.
"""

import collections
import functools
import re
import statistics
import tempfile
import time
from pathlib import Path

from _processes import in_processes, start
from _results import record, table
from _timing import alternate, spread
from training_against_bare_loop import PRECISIONS, compiled_loop, product

from spark_cnn_ensemble.worker.runtime import load_tensorflow

CALLS = 3  # of the loop while it is traced
STEP, REST, PRODUCT = "whole step", "rest: small operations and TensorFlow's executor", "product"
PARTS = {  # the parts of a step by the names of their operations; the first pattern that is found counts
    "first convolution, forward": "convolution_0.*FusedConv2D",
    "first convolution, gradient by weights": "convolution_0.*BackpropFilter",
    "second convolution, forward": "convolution_1.*FusedConv2D",
    "second convolution, gradient by weights": "convolution_1.*BackpropFilter",
    "second convolution, gradient by inputs": "convolution_1.*BackpropInput",
    "pooling, both layers, forward and back": "pooling",
    "dense layers, forward and back": "/(dense|probability)_",
    "Adam": "Adam",
    "ReLU, loss, other operations that are traced": "^while/",
}
FIRST, SECOND = 24 * 24 * 16 * 25, 8 * 8 * 32 * 25 * 16  # multiplications per image, of convolutions without padding
WORK = {name: 2 * (FIRST if name.startswith("first") else SECOND) for name in PARTS if "convolution" in name}
WORK[STEP] = sum(WORK.values()) + 2 * 3 * (4 * 4 * 32 * 128 + 128 * 10)


def traced(precision):
    """Microseconds per image by part, and GFLOP/s of a product, in this process."""
    some_steps = compiled_loop(precision)
    tf = load_tensorflow()
    for _ in range(3 * CALLS):
        some_steps()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, tf.profiler.experimental.ProfilerOptions(host_tracer_level=3))
        begun = time.perf_counter()
        images = sum(some_steps() for _ in range(CALLS))
        seconds = time.perf_counter() - begun
        tf.profiler.experimental.stop()
        times = operations(next(Path(folder).rglob("*.xplane.pb")))
    found = collections.Counter(dict.fromkeys(PARTS, 0.0))
    for name, value in times.items():
        part = next((part for part, pattern in PARTS.items() if re.search(pattern, name)), None)
        if part:
            found[part] += value / images * 1e6
    whole = seconds / images * 1e6
    return {**found, REST: whole - sum(found.values()), STEP: whole, PRODUCT: product(precision, 2.0) / 1e9}


def operations(file):
    """The seconds in each operation of a trace, by its name in the graph and its kernel."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space, found = xplane_pb2.XSpace(), collections.Counter()
    space.ParseFromString(file.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                found[plane.event_metadata[event.metadata_id].name] += event.duration_ps / 1e12
    return found


def main():
    """Trace the steps by precision, in turn."""
    turns = {precision: [] for precision in PRECISIONS}

    def turn(precision):
        turns[precision].append(in_processes(1, traced, precision)[0])
        return turns[precision][-1][STEP]

    alternate({precision: functools.partial(turn, precision) for precision in PRECISIONS})
    rows, limits, shares = [], [], []
    for name in (*PARTS, REST, STEP):
        cells = [name]
        for precision in PRECISIONS:
            values = [found[name] for found in turns[precision][1:]]
            speed = f"{WORK[name] / statistics.median(values) / 1e3:.0f}" if name in WORK else ""
            cells += [spread(values, ".1f"), speed]
        rows.append(cells)
    for precision in PRECISIONS:
        limits.append(f"{spread([found[PRODUCT] for found in turns[precision][1:]], '.0f')} in {precision}")
        of_step = [
            sum(value for name, value in found.items() if "convolution" in name) / found[STEP]
            for found in turns[precision][1:]
        ]
        shares.append(f"{statistics.median(of_step):.0%} ({precision})")
    columns = ("part", *(f"{precision}, {unit}" for precision in PRECISIONS for unit in ("µs per image", "GFLOP/s")))
    record(
        __file__,
        __doc__,
        f"convolutions take {' and '.join(shares)}",
        table(columns, rows),
        f"Product of the two matrices on one core, GFLOP/s: {' and '.join(limits)}.",
    )


if __name__ == "__main__":
    start(__doc__, main)
