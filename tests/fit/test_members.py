"""The job that trains the members: one bag per partition, and members that diverge."""

import numpy as np
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F
from support.classifiers import small

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.fit.members import place_bags
from spark_cnn_ensemble.rows.draw import draw_of

BRITTLE = {
    "bagging": "subsample",
    "subsamplingRate": 0.4,
    "numMembers": 4,
    "standardization": False,
    "idCol": "id",
    "oobSampleSize": 200,
    "verbose": 0,
    "seed": 17,
}
DRAW = draw_of("subsample", 0.4, 4, BRITTLE["seed"])


@pytest.mark.parametrize(
    ("members", "times"),
    [([0, 1, 2, 3], 1), ([1, 3], 1), ([2], 1), ([0, 1, 2, 3], 3), ([3, 0], 2)],
    ids=["all", "some", "one", "all three times", "some twice"],
)
def test_each_partition_holds_the_bag_of_one_member(spark, members, times):
    bagged = spark.range(40).select("id", (F.col("id") % 4).cast("int").alias("member"))
    placed = place_bags(bagged, members, 4, times)
    assert placed.columns == bagged.columns
    partitions = placed.groupBy(F.spark_partition_id().alias("partition")).agg(
        F.collect_set("member").alias("members"), F.count("id").alias("rows"), F.countDistinct("id").alias("ids")
    )
    expected = [(at, [member], 10, 10) for at, member in enumerate(members * times)]
    assert [tuple(row) for row in partitions.orderBy("partition").collect()] == expected


@pytest.fixture(scope="module")
def diverging(spark, digits):
    """Rows with one image that makes float32 overflow, the two members that have it in their bags, and all bags."""
    x, y = digits[0]
    in_bag = [DRAW.copies(F.xxhash64("id"), F.lit(member)) > 0 for member in range(4)]
    ids = spark.range(len(x)).orderBy("id")
    bags = np.array([row[0] for row in ids.select(F.array(*in_bag)).collect()])
    huge = np.flatnonzero(bags.sum(axis=1) == 2)[0]
    images = (x / 16).astype(np.float32)
    images[huge] = 3e38
    return to_dataframe(spark, images, y).cache(), np.flatnonzero(bags[huge]).tolist(), bags


def test_a_member_that_diverges_fails_the_fit_in_a_sentence_and_the_others_are_kept(diverging, tmp_path):
    rows, members, _ = diverging
    settings = {**BRITTLE, "checkpointDir": str(tmp_path / "checkpoint")}
    with pytest.raises(ValueError) as refused:
        small(**settings).fit(rows)
    sentences = [
        f"Member {member} diverged: its loss is nan in epoch 1; lower learningRate, or set standardization=True if "
        "the features are not scaled."
        for member in members
    ]
    assert str(refused.value) in sentences
    # The same folder serves a fit that goes on without them.
    model = small(**settings, minMembers=2).fit(rows)
    assert model.summary.missingMembers == dict(zip(members, sentences, strict=True))
    with pytest.raises(
        ValueError, match=r"^Only 2 of 4 members are sound, fewer than 'minMembers' \(3\): member \d div"
    ):
        small(**settings, minMembers=3).fit(rows)


def test_a_model_without_the_members_that_diverged_votes_and_names_them(diverging, tmp_path):
    rows, members, bags = diverging
    sound = [member for member in range(4) if member not in members]
    model = small(**BRITTLE, minMembers=2, memberPredictionsCol="each").fit(rows)
    model.save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    for one in (model, loaded):
        assert [member.member for member in one.members] == sound
        assert sorted(one.summary.missingMembers) == members
        assert all("diverged" in reason for reason in one.summary.missingMembers.values())
        assert one.getNumMembers() == 2
    with pytest.raises(
        PySparkException, match="has numbers so far from those of the training rows that members compute NaN"
    ):
        loaded.transform(rows).collect()
    scored = {row["id"]: row for row in loaded.setHandleInvalid("keep").transform(rows).collect()}
    voted = {key: row["rawPrediction"].toArray().sum() for key, row in scored.items() if row["prediction"] is not None}
    assert set(voted.values()) == {2}
    assert len(scored) - len(voted) == 1, "the image that overflows has no prediction"

    # Out-of-bag, each sound member votes on the rows that it did not train on.
    by_ticket = rows.select("id", DRAW.ticket(F.xxhash64("id")).alias("ticket")).orderBy("ticket")
    ids = [row["id"] for row in by_ticket.limit(200).collect()]
    expected = [
        [-1 if bags[row, member] or row not in voted else scored[row]["each"][at] for at, member in enumerate(sound)]
        for row in ids
    ]
    assert np.array_equal(model.summary.outOfBag.votes, expected)
    assert loaded.summary.outOfBag == model.summary.outOfBag
