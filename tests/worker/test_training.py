"""A trained member comes with a report of what it trained on, and a plan that cannot be carried out is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.bags import bag_of, none_of, pick, training_plan

from spark_cnn_ensemble.worker.bag import Bag, Sample
from spark_cnn_ensemble.worker.refusal import Divergence, Refusal
from spark_cnn_ensemble.worker.training import sample_tables, train_member

pytestmark = pytest.mark.usefixtures("tensorflow")


def test_a_report_says_what_a_member_trained_on(some_digits):
    copies = np.arange(len(some_digits)) % 3 + 1
    training = replace(some_digits, copies=copies.astype(np.int32))
    validation = pick(some_digits, np.arange(10))
    table = train_member(Bag(1, training, validation, 4), training_plan(epochs=3))
    assert table["member"].tolist() == [1]
    assert table["part"].tolist() == [0]
    report = json.loads(table["report"][0])
    assert report["member"] == 1
    assert (report["rows"], report["examples"], report["validationRows"]) == (120, copies.sum(), 10)
    assert report["skippedRows"] == 4
    assert report["classCounts"] == np.bincount(some_digits.labels, minlength=10).tolist()
    assert report["size"] == len(table["bytes"][0])
    assert {name: len(curve) for name, curve in report["history"].items()} == {
        "loss": 3,
        "accuracy": 3,
        "val_loss": 3,
        "val_accuracy": 3,
    }


def test_a_diverged_member_is_reported_or_fails_the_job_as_the_plan_says(some_digits):
    bag = bag_of(some_digits, member=1)
    plan = training_plan(learning_rate=1e38)
    with pytest.raises(Divergence, match=r"^Member 1 diverged: "):
        train_member(bag, plan)
    table = train_member(bag, replace(plan, keep_diverged=True))
    report = json.loads(table["report"][0])
    assert report["failure"].startswith("Member 1 diverged: ")
    assert "history" not in report
    assert table["bytes"].tolist() == [b""]


@pytest.mark.parametrize("weight", [None, 1, 0], ids=["no weights", "weight 1", "validation rows of weight 0"])
def test_patience_without_validating_rows_is_refused(some_digits, weight):
    rows = some_digits
    if weight is not None:
        rows = replace(rows, weights=np.full(len(rows), weight, np.float32))
    validation = rows if weight == 0 else none_of(rows)
    sentence = r"'earlyStoppingPatience' .* no row .*'validationIndicatorCol'; .*set earlyStoppingPatience=0\.$"
    with pytest.raises(Refusal, match=sentence):
        train_member(bag_of(rows, validation), training_plan(early_stopping_patience=2))


def test_the_sample_of_a_bag_leaves_as_one_row_per_image(some_digits):
    sample = Sample(np.array([7, -8]), np.array([0.1, 0.2]), some_digits.labels[:2], some_digits.images[:2])
    (table,) = sample_tables(replace(bag_of(some_digits, member=2), sample=sample), 1.25)
    assert table["member"].tolist() == [2, 2]
    assert table["part"].isna().all()
    assert table["report"].tolist() == ["1.25", "1.25"]
    assert table[["row_key", "ticket", "label"]].to_numpy().tolist() == [
        [7, 0.1, some_digits.labels[0]],
        [-8, 0.2, some_digits.labels[1]],
    ]
    assert table["bytes"].tolist() == [image.tobytes() for image in some_digits.images[:2]]
