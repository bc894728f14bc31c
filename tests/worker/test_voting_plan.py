"""A voting plan knows the size of a block and whether votes may stop early."""

from dataclasses import replace

import pytest
from support.voting import DIGITS, voting_plan

ONLY_PREDICTION = voting_plan("early", outputs=("prediction",))


def test_a_majority_that_is_only_predicted_may_be_decided_early():
    assert ONLY_PREDICTION.may_stop_early


@pytest.mark.parametrize(
    "changes",
    [{"soft": True}, {"thresholds": (0.5, 1.0)}, {"outputs": ("prediction", "uncertainty")}],
    ids=["soft", "thresholds", "another output"],
)
def test_other_votes_need_all_members(changes):
    assert not replace(ONLY_PREDICTION, **changes).may_stop_early


@pytest.mark.parametrize(("side", "rows"), [(8, 128), (256, 10), (1000, 8)])
def test_blocks_of_larger_images_have_fewer_rows(side, rows):
    plan = voting_plan("blocks")
    assert replace(plan, pixels=replace(DIGITS, shape=(side, side, 3))).block_rows == rows


def test_the_schema_names_the_outputs_in_order():
    plan = voting_plan("schema", outputs=("prediction", "memberPredictions"))
    assert plan.schema == "prediction double, memberPredictions array<int>"
