"""What a Connect client knows about its running operations, through tags and the progress handler."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from spark_cnn_ensemble.engine.interface import JobWatch


class TaggedOperations(JobWatch):
    """The operations of the thread that started the watch."""

    def __init__(self, spark: Any, tag: str) -> None:
        self._spark = spark
        self._tag = tag
        self._thread = 0
        self._stages: dict[int, tuple[int, int]] = {}

    def start(self) -> None:
        self._thread = threading.get_ident()
        self._spark.addTag(self._tag)
        self._spark.registerProgressHandler(self._on_progress)

    def _on_progress(self, *, stages: Any, **_: Any) -> None:
        # The client reports each operation in the thread that waits for it.
        if threading.get_ident() == self._thread:
            for stage in stages or ():
                self._stages[stage.stage_id] = (stage.num_completed_tasks, stage.num_tasks)

    def stop(self, cancel: bool) -> None:
        with suppress(Exception):
            self._spark.removeProgressHandler(self._on_progress)
            if cancel:
                self._spark.interruptTag(self._tag)  # an operation goes on if its client merely stops to wait for it
            self._spark.removeTag(self._tag)

    def stages(self) -> list[tuple[int, int]]:
        stages = sorted(self._stages.items())
        # A stage that Spark skips has no task that is done.
        return [counts for index, (_, counts) in enumerate(stages) if counts[0] or index == len(stages) - 1]
