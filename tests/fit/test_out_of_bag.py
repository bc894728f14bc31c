"""The out-of-bag estimate of real fits: its rows, its votes, and how close it is to the accuracy on held-out rows."""

import io

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import functions as F
from support.classifiers import small
from support.members import weights_of

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.datasets import to_dataframe
from spark_cnn_ensemble.fit.out_of_bag import sample_size
from spark_cnn_ensemble.rows.draw import draw_of

BETTER = {"numMembers": 5, "filters": [8, 16], "denseUnits": 32, "epochs": 10, "learningRate": 4e-3, "idCol": "id"}
DRAWS = [
    pytest.param(("disjoint", 1.0), id="disjoint"),
    pytest.param(("subsample", 0.5), id="subsample"),
    pytest.param(("subsample", 0.05), id="subsample, most rows in no bag"),  # few of them are guests of the sample
    pytest.param(("bootstrap", 1.0), id="bootstrap"),
]


def keyed(rows, draw):
    """The rows with their tickets and their copies in each member's bag, in the order of the tickets."""
    key = F.xxhash64("id")
    copies = [draw.copies(key, F.lit(member)) for member in range(draw.num_members)]
    table = rows.select("id", "label", draw.ticket(key).alias("ticket"), F.array(*copies).alias("copies"))
    return table.orderBy("ticket").toPandas()


def sampled(rows, draw):
    """The 300 rows with the lowest tickets; rows in no bag are in the sample only below the limit for guests."""
    table = keyed(rows, draw)
    in_any_bag = np.stack(table["copies"].to_list()).sum(axis=1) > 0
    return table[in_any_bag | (table["ticket"] < draw.guest_limit)][:300]


@pytest.fixture(scope="module", params=DRAWS)
def fitted(request, train):
    """A model with an out-of-bag sample of 300 rows, and its draw."""
    bagging, rate = request.param
    classifier = small(**{**BETTER, "numMembers": 3}, bagging=bagging, subsamplingRate=rate, oobSampleSize=300)
    return classifier.fit(train), draw_of(bagging, rate, 3, classifier.getSeed())


def test_the_sample_is_the_rows_with_the_lowest_tickets(fitted, train):
    model, draw = fitted
    expected = sampled(train, draw)
    votes = model.summary.outOfBag
    assert votes.labels.tolist() == expected["label"].tolist()
    in_bag = np.stack(expected["copies"].to_list()) > 0
    assert np.array_equal(votes.votes < 0, in_bag)
    assert np.array_equal(votes.predictions < 0, in_bag.all(axis=1))


def test_out_of_bag_members_vote_as_they_do_in_transform(fitted, train):
    model, draw = fitted
    ids = sampled(train, draw)["id"].tolist()
    scored = model.copy().setMemberPredictionsCol("each").transform(train.where(F.col("id").isin(ids)))
    votes = {row["id"]: row["each"] for row in scored.select("id", "each").collect()}
    out_of_bag = model.summary.outOfBag
    for row, number in enumerate(ids):
        for member in range(draw.num_members):
            if out_of_bag.votes[row, member] >= 0:
                assert out_of_bag.votes[row, member] == votes[number][member]


def test_rows_in_no_bag_are_counted_and_train_no_member(fitted, train):
    model, draw = fitted
    copies = np.stack(keyed(train, draw)["copies"].to_list())
    assert model.summary.unusedRows == (copies.sum(axis=1) == 0).sum()
    assert model.summary.rows == len(copies)
    assert [member.rows for member in model.members] == (copies > 0).sum(axis=0).tolist()


def test_the_estimate_does_not_depend_on_the_partitioning(train):
    classifier = small(bagging="bootstrap", oobSampleSize=100, idCol="id")
    one, other = (classifier.fit(rows).summary for rows in (train, train.repartition(5)))
    assert one.outOfBag == other.outOfBag


def test_members_are_the_same_with_and_without_a_sample(train):
    classifier = small(bagging="subsample", subsamplingRate=0.2)
    with_sample = classifier.copy({classifier.oobSampleSize: 50}).fit(train)
    assert weights_of(with_sample) == weights_of(classifier.fit(train))


def test_out_of_bag_votes_are_decided_by_the_thresholds(train):
    thresholds = [1e-9] + [1.0] * 9
    votes = small(thresholds=thresholds, votingStrategy="soft", oobSampleSize=100).fit(train).summary.outOfBag
    assert votes.predictions.tolist() == [0] * 100
    assert votes.agreement["rows"].sum() == votes.rows


def overlap(one, other):
    """Whether two intervals overlap."""
    return one[0] < other[1] and other[0] < one[1]


@pytest.mark.parametrize("bagging", ["disjoint", "bootstrap"])
def test_the_estimate_is_near_the_accuracy_on_held_out_rows(spark, digits, bagging):
    """The rows are shuffled before the split, since other people wrote the last of the digits."""
    (x_train, y_train), (x_test, y_test) = digits
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    order = np.random.default_rng(0).permutation(len(x))
    rows, held_out = (to_dataframe(spark, x[part], y[part]) for part in (order[:1200], order[1200:]))
    model = small(**{**BETTER, "numMembers": 3, "epochs": 15}, bagging=bagging, oobSampleSize=1000).fit(rows)
    evaluation = model.evaluate(held_out)
    estimate = model.summary.outOfBag
    assert evaluation.accuracy > 0.8
    assert overlap(estimate.accuracyInterval, evaluation.accuracyInterval), (estimate, evaluation)


def test_the_estimate_is_near_the_accuracy_on_held_out_mnist(spark, mnist):
    (x_train, y_train), (x_test, y_test) = mnist
    classifier = small(
        bagging="bootstrap", numMembers=3, inputShape=[28, 28, 1], epochs=2, learningRate=4e-3, oobSampleSize=1000
    )
    model = classifier.fit(to_dataframe(spark, x_train[:3000], y_train[:3000]))
    evaluation = model.evaluate(to_dataframe(spark, x_test[:2000], y_test[:2000]))
    estimate = model.summary.outOfBag
    assert overlap(estimate.accuracyInterval, evaluation.accuracyInterval), (estimate, evaluation)


def test_the_estimate_is_saved_and_loaded(fitted, tmp_path):
    model, _ = fitted
    model.save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    assert loaded.summary == model.summary
    assert loaded.summary.oobAccuracy == model.summary.oobAccuracy
    assert weights_of(loaded.pruned(2)) == weights_of(model.pruned(2))


@pytest.mark.parametrize(
    ("params", "members"),
    [({"bagging": "subsample"}, 3), ({"bagging": "disjoint"}, 1)],
    ids=["all rows in every bag", "one bag"],
)
def test_if_no_row_is_out_of_bag_there_is_no_estimate(train, params, members):
    classifier = small(**params, numMembers=members)
    with pytest.raises(
        ValueError, match=r"^The 'oobSampleSize' parameter .* must be 0 where every row is in every bag"
    ):
        classifier.copy({classifier.oobSampleSize: 100}).fit(train)
    classifier.clear(classifier.oobSampleSize)  # the default asks for an estimate only where there can be one
    summary = classifier.fit(train).summary
    assert summary.oobAccuracy is None and summary.outOfBag is None


def test_validation_rows_are_not_in_the_sample(train):
    rows = train.withColumn("held", F.col("id") % 3 == 0)
    model = small(validationIndicatorCol="held", oobSampleSize=5000).fit(rows)
    assert len(model.summary.outOfBag.labels) == rows.where("not held").count()
    assert model.summary.unusedRows == 0


def test_disputed_rows_are_pictures_of_the_sample(fitted):
    model, _ = fitted
    rows = model.summary.outOfBag.disputedRows
    assert 0 < len(rows) <= 12
    assert [row.uncertainty for row in rows] == sorted((row.uncertainty for row in rows), reverse=True)
    for row in rows:
        assert Image.open(io.BytesIO(row.image)).size == (8, 8)
        assert 2 <= sum(row.votes) <= 3


def test_a_pruned_model_scores_with_its_members_alone(train, test):
    model = small(**BETTER, bagging="bootstrap", oobSampleSize=500).fit(train)
    pruned = model.pruned(2)
    assert pruned.getNumMembers() == 2
    chosen = model.summary.outOfBag.selection(2)
    assert weights_of(pruned) == tuple(weights_of(model)[member] for member in chosen)
    assert pruned.evaluate(test).accuracy > 0.5
    with pytest.raises(ValueError, match=r"has 1 to 5 members\. Got 6"):
        model.pruned(6)
    for without_votes in (pruned, model.merge(model)):
        with pytest.raises(RuntimeError, match="no out-of-bag votes"):
            without_votes.pruned(1)


@pytest.mark.parametrize(
    ("rows", "numbers", "expected"),
    [(1000, 784, 1000), (1000, 1 << 20, 64), (5, 1 << 40, 1), (0, 784, 0)],
    ids=["small images", "large images", "an image larger than the limit", "none"],
)
def test_the_sample_has_at_most_256_mib_of_pixels(rows, numbers, expected):
    assert sample_size(rows, numbers) == expected


def test_pictures_of_training_rows_are_left_out_on_request(train, tmp_path):
    classifier = small(bagging="bootstrap", oobSampleSize=100, idCol="id")
    kept = classifier.fit(train)
    left_out = classifier.copy({classifier.keepDisputedRows: False}).fit(train)
    assert len(kept.summary.outOfBag.disputedRows) == 12
    assert left_out.summary.outOfBag.disputedRows == ()
    assert np.array_equal(left_out.summary.outOfBag.votes, kept.summary.outOfBag.votes)
    assert weights_of(left_out) == weights_of(kept)
    left_out.summary.to_html(str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert "Pictures of disputed rows were left out." in page
    assert "<img" not in page


def test_a_fitted_model_can_be_saved_without_pictures(train, tmp_path):
    model = small(bagging="bootstrap", oobSampleSize=100).fit(train)
    model.copy().setKeepDisputedRows(False).save(str(tmp_path / "model"))
    votes = CNNEnsembleClassificationModel.load(str(tmp_path / "model")).summary.outOfBag
    assert votes.disputedRows == () and votes.rows == model.summary.outOfBag.rows
    assert "iVBOR" not in "".join(file.read_text() for file in (tmp_path / "model" / "metadata").glob("part-*"))
    assert len(model.summary.outOfBag.disputedRows) == 12
