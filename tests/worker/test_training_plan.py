"""A plan's program holds what decides the graph, and its seeds differ by member."""

from dataclasses import replace

import pytest
from support.bags import SMALL, training_plan

PLAN = training_plan()


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-2}, {"epochs": 3}, {"seed": 5}, {"early_stopping_patience": 1}], ids=str
)
def test_plans_that_differ_outside_the_graph_have_one_program(change):
    other = replace(PLAN, **change)
    assert other.program == PLAN.program
    assert other != PLAN


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 10},
        {"optimizer": "sgd"},
        {"learning_rate_schedule": "cosine"},
        {"random_shift": 1},
        {"random_flip": True},
        {"precision": "bfloat16"},
        {"architecture": replace(SMALL, dense_units=17)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_plans_that_differ_in_the_graph_have_different_programs(change):
    assert replace(PLAN, **change).program != PLAN.program


def test_seeds_differ_by_member_and_by_the_seed_of_the_plan():
    seeds = [plan.member_seed(member) for plan in (PLAN, replace(PLAN, seed=18)) for member in range(100)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert PLAN.member_seed(7) == training_plan().member_seed(7)
