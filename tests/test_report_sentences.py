"""The sentences of a report state what the fit and its votes show."""

import html
import re
from dataclasses import replace

import numpy as np
import pytest
from support.results import AWKWARD_NAMES, count_votes, evaluation, no_votes, out_of_bag, random_votes, summary

from spark_cnn_ensemble.fit_result import InitialLayers
from spark_cnn_ensemble.report_sentences import story
from spark_cnn_ensemble.votes import OutOfBag


def text_of(fit, evaluation=None, class_names=None):
    """The paragraphs as a reader sees them, one per line."""
    return html.unescape(re.sub("<[^>]*>", "", "\n".join(story(fit, evaluation, class_names))))


@pytest.mark.parametrize(
    ("fit", "sentence"),
    [
        (
            summary(3, [2, 4, 3], skippedRows=1),
            "3 members were trained in 12 seconds, each on 100 to 102 of 999 rows and for 2 to 4 epochs. "
            "1 row could not be used and was left out.",
        ),
        (summary(1, 1), "1 member was trained in 12 seconds, on 100 of 1,000 rows and for 1 epoch."),
        (summary(missingMembers={7: "loss is NaN"}), "1 more member failed and was left out."),
    ],
    ids=["members that differ", "one member", "a missing member"],
)
def test_the_training_is_described(fit, sentence):
    assert sentence in text_of(fit)


def test_out_of_bag_accuracy_is_given_with_its_interval_and_the_members_range():
    votes = out_of_bag(3)
    low, high = votes.accuracyInterval
    alone = votes.memberAccuracies
    assert (
        f"Out-of-bag accuracy of the vote: {votes.accuracy:.2%} (95 % confidence interval {low:.2%} to {high:.2%}), "
        f"measured on {votes.rows} sampled rows. On each row, only the members that were not trained on it vote: "
        f"{votes.votersPerRow:.1f} of 3 on average. So the estimate is pessimistic: on other rows of the same kind, the vote "
        "of all 3 may be better than the interval says. "
        f"Single members reach {alone.mean():.2%} on average, from {alone.min():.2%} to {alone.max():.2%}."
    ) in text_of(summary(out_of_bag=votes))


@pytest.mark.parametrize("members", [1, 3])
def test_the_estimate_of_members_that_started_from_a_model_may_be_optimistic(members):
    fit = replace(
        summary(members, 1, out_of_bag=out_of_bag(members)), initialLayers=(InitialLayers((0,), ("dense",), {}),)
    )
    text = text_of(fit)
    assert (
        "They started from initialModel: if that was trained on the row, they know it, and the estimate is optimistic; "
        "evaluate held-out rows."
    ) in text
    assert "pessimistic" not in text


def test_held_out_accuracy_is_given_next_to_the_out_of_bag_accuracy():
    fit, votes = summary(4, out_of_bag=out_of_bag(4)), evaluation(4)
    text = text_of(fit, votes)
    assert f"\nAccuracy of the vote: {votes.accuracy:.2%} (95 %" in text
    assert "measured on 300 held-out rows" in text
    assert f"Out-of-bag accuracy of the vote: {fit.outOfBag.accuracy:.2%} (95 %" in text


@pytest.mark.parametrize(
    ("votes", "reason"),
    [(None, "oobSampleSize is 0"), (no_votes(), "every member was trained on every row of the sample")],
    ids=["no sample", "no row out-of-bag"],
)
def test_a_missing_out_of_bag_estimate_has_its_reason(votes, reason):
    assert re.search(
        f"^Out-of-bag accuracy was not estimated: [^.]*{re.escape(reason)}", text_of(summary(out_of_bag=votes)), re.M
    )


FEW = "Votes of so few do not show whether more would help: fit with more members and compare on held-out rows."


@pytest.mark.parametrize(
    ("right_by_size", "sentence"),
    [
        (
            [700, 800, 850, 900],
            "Accuracy is 80.00% with 2 members and 90.00% with 4. The gain of 10.00 points is larger than the margin of "
            "error (± 1.86 points): more members are likely to help.",
        ),
        (
            [700, 700, 895, 850, 850, 900],
            "90.00% with 6. The gain of 0.50 points is within the margin of error (± 1.86 points). Gains shrink as "
            "members are added: doubling their number again should add less.",
        ),
        ([700, 700, 900, 850, 850, 900], "it has levelled off, and more members are unlikely to help."),
        ([700, 700, 950, 850, 850, 900], "it has levelled off"),
        ([100, 1000, 1000, 1000], "it has levelled off"),
        ([700, 895, 850, 900], f"90.00% with 4. {FEW}"),
        ([700, 950, 850, 900], f"90.00% with 4. {FEW}"),
        ([900, 900], f"90.00% with 2. {FEW}"),
        ([800, 900], "? Accuracy is 80.00% with 1 member and 90.00% with 2. The gain"),
        ([800, 850, 900], "? Accuracy is 80.00% with 1 member and 90.00% with 3. The gain"),
        ([800], "? Votes of one size do not show it."),
    ],
    ids=[
        "gain",
        "gain within chance",
        "no gain",
        "loss",
        "all right",
        "gain within chance of few",
        "loss of few",
        "no gain of two",
        "two members",
        "three members",
        "one member",
    ],
)
def test_the_gain_from_more_members_is_compared_with_chance(right_by_size, sentence):
    votes = replace(evaluation(len(right_by_size), rows=1000), rightBySize=np.array(right_by_size))
    text = text_of(summary(len(right_by_size)), votes)
    assert "Would more members help?" in text
    assert sentence in text


def test_out_of_bag_votes_of_few_members_do_not_speak_against_more():
    """Two members can only tie where they differ, so two vote as well as one."""
    labels, votes = random_votes(4, 3, 900)
    votes[np.arange(900)[:, None] % 2 == np.arange(4) % 2] = -1
    text = text_of(summary(4, out_of_bag=OutOfBag(labels, votes, count_votes(votes, 3)[1], 3)))
    assert FEW in text
    assert "2.0 of 4 on average" in text
    assert "unlikely to help" not in text


def test_early_stopping_is_described():
    fit = summary(2, [4, 5], validation=True)
    members = tuple(replace(member, keptEpoch=kept) for member, kept in zip(fit.members, (2, 4), strict=True))
    assert ("Training stopped early, with the weights of the epoch of the lowest validation loss: 2 to 4.") in text_of(
        replace(fit, members=members)
    )


def test_the_most_frequent_errors_are_listed():
    confusion = np.array([[50, 0, 7], [2, 1_000, 1], [9, 0, 60]])
    text = text_of(summary(4), replace(evaluation(classes=3), confusion=confusion), ["ant", "bee", "犬"])
    assert (
        "Most frequent errors: 犬 predicted as ant (9 of 69 rows), ant predicted as 犬 (7 of 57 rows) and bee predicted "
        "as ant (2 of 1,003 rows). In total, 19 rows were predicted wrongly."
    ) in text


def test_a_vote_without_errors():
    labels = np.arange(60) % 3
    votes = OutOfBag(labels, np.repeat(labels[:, None], 4, axis=1), labels, 3)
    text = text_of(summary(4, out_of_bag=votes))
    assert "Every row is predicted correctly." in text
    assert (
        "All members that vote agree on 100.0% of the rows with two votes or more, and 100.00% of these predictions are right.\n"
        in f"{text}\n"
    )


def test_the_certainty_of_the_vote_is_its_accuracy_with_and_without_full_agreement():
    votes = OutOfBag(
        np.array([0, 0, 0, 0, 1, 1, 1, 1]),
        np.array([[0, 0], [0, 0], [0, 0], [1, 1], [0, 1], [0, 1], [0, 1], [1, -1]]),
        np.array([0, 0, 0, 1, 0, 0, 1, 1]),
        2,
    )
    assert (
        "All members that vote agree on 57.1% of the rows with two votes or more, and 75.00% of these predictions are "
        "right. On the other 42.9% of the rows, 33.33% are right."
    ) in text_of(summary(2, out_of_bag=votes))


def test_a_vote_that_is_never_unanimous():
    votes = OutOfBag(np.array([0, 1]), np.array([[0, 1], [0, 1]]), np.array([0, 0]), 2)
    assert "How certain is the vote? No prediction has all votes." in text_of(summary(2, out_of_bag=votes))


def test_votes_of_one_member_per_row_do_not_show_agreement():
    """As of two members with disjoint bags."""
    votes = np.full((20, 2), -1)
    votes[::2, 0], votes[1::2, 1] = 0, 1
    text = text_of(summary(2, out_of_bag=OutOfBag(np.zeros(20, int), votes, votes.max(axis=1), 2)))
    assert "How certain is the vote? No two members vote on the same row, so that agreement cannot be measured." in text


def test_the_accuracy_by_size_of_out_of_bag_votes_is_said_to_be_that_of_a_majority():
    """Thresholds may predict another class than the majority."""
    votes = OutOfBag(np.zeros(100, int), np.zeros((100, 4), int), np.ones(100, int), 2)
    text = text_of(summary(4, out_of_bag=votes))
    assert "Accuracy of a majority vote is 100.00% with 2 members and 100.00% with 4" in text
    assert "No prediction has all votes." in text


def test_one_member_says_nothing_about_agreement():
    text = text_of(summary(1, out_of_bag=out_of_bag(1)))
    assert "How certain is the vote? One member does not show it: agreement needs at least two." in text
    assert "Single members reach" not in text


def test_an_evaluation_without_rows_is_reported():
    votes = replace(evaluation(), confusion=np.zeros((3, 3), int))
    assert text_of(summary(), votes).splitlines()[-1] == "The evaluation has no rows."


def test_class_names_are_escaped():
    sentences = " ".join(story(summary(4, out_of_bag=out_of_bag(4, classes=4)), None, AWKWARD_NAMES))
    assert "<script" not in sentences
    assert html.escape(AWKWARD_NAMES[0]) in sentences
