"""The counts and votes of an evaluation are those of the members and of their prediction."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support.bags import SMALL, cut, numbers
from support.voting import DIGITS, FAR, constant_member, votes_of, voting_plan

from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.worker.evaluation import count_votes, vote_out_of_bag
from spark_cnn_ensemble.worker.refusal import Refusal
from spark_cnn_ensemble.worker.voting_plan import VotingPlan

pytestmark = pytest.mark.usefixtures("tensorflow")


def confusion_of(counted, classes):
    """The counts of a partition as a matrix of labels and predictions."""
    members = len(counted["memberRight"][0])
    return CNNEnsembleEvaluation.from_counts(counted.to_dict("records"), classes, members).confusionMatrix


@pytest.mark.slow
def test_votes_are_counted_against_the_labels(three_members, thousand_cells):
    weights, networks = three_members
    labels = np.arange(len(thousand_cells)) % 10
    cells = list(thousand_cells)
    cells[3], cells[500] = None, numbers(1)
    plan = voting_plan("counted", refuse_invalid=False)
    tables = cut(pd.DataFrame({"features": cells, "label": labels, "name": None}), [1, 300, 7])
    (counted,) = count_votes(tables, plan, weights.__getitem__)
    predicted = votes_of(cells, [], plan, weights)["prediction"]
    usable = predicted.notna().to_numpy()
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels[usable], predicted[usable].astype(int)), 1)
    assert np.array_equal(confusion_of(counted, 10), confusion)
    assert counted["skipped"][0] == 2
    images = np.stack(thousand_cells).reshape(-1, 8, 8, 1)[usable]
    right = [(network.predict(images, verbose=0).argmax(axis=1) == labels[usable]).sum() for network in networks]
    # Rounding may settle a tie in float32 either way.
    assert np.abs(counted["memberRight"][0] - right).max() <= 1


def test_rows_that_members_cannot_compute_are_not_counted(three_members, thousand_cells):
    weights, _ = three_members
    frame = pd.DataFrame(
        {"features": [thousand_cells[0], None, FAR, thousand_cells[1]], "label": [1, 2, 3, 4], "name": "x"}
    )
    plan = voting_plan("far", refuse_invalid=False)
    (counted,) = count_votes([frame], plan, weights.__getitem__)
    (usable,) = count_votes([frame.iloc[[0, 3]]], plan, weights.__getitem__)
    assert (counted["skipped"][0], usable["skipped"][0]) == (2, 0)
    for name in ("cells", "rowsInCells", "memberRight", "rightBySize"):
        assert np.array_equal(counted[name][0], usable[name][0])
    with pytest.raises(Refusal, match="members compute NaN"):
        list(count_votes([frame.drop(index=1)], replace(plan, refuse_invalid=True), weights.__getitem__))


def test_the_prediction_that_is_counted_under_thresholds_is_the_one_that_is_scored():
    # 1 vote / 0.1 and 6 votes / 0.6 tie. Their shares of 7 votes do not, as they are rounded.
    weights = [constant_member(0.999), *[constant_member(0.49)] * 6]
    architecture = replace(SMALL, num_classes=2)
    plan = VotingPlan("thresholds", (architecture,), (0,) * 7, DIGITS, thresholds=(0.1, 0.6))
    cells = [np.zeros(64)]
    predicted = votes_of(cells, [], plan, weights)["prediction"].tolist()
    (counted,) = count_votes([pd.DataFrame({"features": cells, "name": None, "label": [0]})], plan, weights.__getitem__)
    assert confusion_of(counted, 2)[0].argmax() == predicted[0]


def test_members_vote_out_of_bag_on_rows_that_they_did_not_train_on(three_members, thousand_cells):
    weights, _ = three_members
    cells = thousand_cells[:3]
    in_bag = [[False, False, False], [True, False, True], [True, True, True]]
    frame = pd.DataFrame(
        {
            "ticket": [0.1, 0.2, 0.3],
            "label": [4, 5, 6],
            "bytes": [cells[0].astype(np.uint8).tobytes(), cells[1].tobytes(), cells[2].tobytes()],
            "inBag": in_bag,
            "member": [2, 0, 1],
            "report": ["1.5", "0.5", "2.0"],
        }
    )
    plan = voting_plan("out of bag", outputs=("prediction", "memberPredictions"))
    scored = votes_of(cells, [], plan, weights)
    (voted,) = vote_out_of_bag([frame], plan, weights.__getitem__)
    members = np.stack(scored["memberPredictions"])
    assert np.stack(voted["votes"]).tolist() == np.where(in_bag, -1, members).tolist()
    assert voted["prediction"].tolist() == [scored["prediction"][0], members[1, 1], -1]
    assert voted["label"].tolist() == [4, 5, 6]
    assert voted["disputed"][2] is None
    assert voted[["member", "report"]].equals(frame[["member", "report"]])
