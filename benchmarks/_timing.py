"""Seconds, rates, and comparisons in alternation."""

import statistics
import time


def timed(function, *arguments):
    """Call a function; the seconds that it takes, and its result."""
    begun = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - begun, result


def seconds_of(function, *arguments):
    """The seconds that a call takes."""
    return timed(function, *arguments)[0]


def rate(work, seconds):
    """Call `work` for at least `seconds`; the sum of what it returns, per second."""
    begun, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < seconds:
        done += work()
    return done / elapsed


def alternate(ways, runs=5):
    """Call each of `ways` (name -> callable) in turn, once to warm up and then `runs` times; the numbers returned."""
    found = {name: [] for name in ways}
    for turn in range(runs + 1):
        for name, measure in ways.items():
            value = measure()
            print(f"{turn or 'warm-up'}: {name}: {value:.4g}", flush=True)
            if turn:
                found[name].append(value)
    return found


def ratios(values, others):
    """Values measured in turn, divided pair by pair."""
    return [value / other for value, other in zip(values, others, strict=True)]


def spread(values, form=",.1f"):
    """Median (minimum to maximum)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"
