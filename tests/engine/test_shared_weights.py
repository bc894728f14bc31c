"""Weights come to the driver in groups of bounded size, whatever the sizes of the members."""

import numpy as np

from spark_cnn_ensemble.engine import shared_weights
from spark_cnn_ensemble.engine.shared_weights import collect_weights
from spark_cnn_ensemble.worker.weights import PART_BYTES, PARTS_SCHEMA, split_weights


def test_a_member_larger_than_a_group_comes_in_several_jobs(spark, monkeypatch):
    rng = np.random.default_rng(0)
    members = {member: rng.bytes(size) for member, size in enumerate((1000, 2 * PART_BYTES + 5, 3000, 2000))}
    rows = [
        (member, part, bytearray(data))
        for member, whole in members.items()
        for part, data in enumerate(split_weights(whole))
    ]
    parts = spark.createDataFrame(rows[::-1], PARTS_SCHEMA).cache()
    sizes = {member: len(data) for member, data in members.items()}
    monkeypatch.setattr(shared_weights, "GROUP_BYTES", 2 * PART_BYTES)
    jobs = []
    collect = type(parts).collect

    def counted(frame):
        rows = collect(frame)
        jobs.append(sum(len(row["bytes"]) for row in rows))
        return rows

    monkeypatch.setattr(type(parts), "collect", counted)
    assert collect_weights(parts, sizes) == members
    assert jobs == [1000, 2 * PART_BYTES, 5, 5000]
