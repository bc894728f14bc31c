"""The record of a fit: its tables and its form in JSON."""

import json

import pytest
from support.member_votes import member_votes, out_of_bag_of

from spark_cnn_ensemble import MemberSummary
from spark_cnn_ensemble.fit_result import FitResult, check_fit_result, check_member


def fit_of_two_members(**values):
    """A fit whose members trained for 2 and 3 epochs."""
    members = tuple(
        MemberSummary(
            member=member,
            rows=10,
            examples=12,
            validationRows=0,
            classCounts=(4, 6),
            seconds=1.5,
            history={
                "loss": tuple(1 / (epoch + 1 + member) for epoch in range(epochs)),
                "accuracy": (0.5,) * epochs,
            },
        )
        for member, epochs in enumerate((2, 3))
    )
    return FitResult(members, rows=20, skippedRows=0, seconds=3.0, **values)


@pytest.fixture(scope="module")
def votes():
    return out_of_bag_of(*member_votes(members=2))


def test_the_table_of_epochs_has_a_row_per_member_and_epoch():
    table = fit_of_two_members().epochTable
    assert table.columns.tolist() == ["member", "epoch", "loss", "accuracy"]
    assert table[["member", "epoch"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2], [1, 3]]


def test_the_objective_history_is_the_mean_of_the_members_that_trained_so_long():
    fit = fit_of_two_members()
    assert fit.objectiveHistory == pytest.approx([(1 + 1 / 2) / 2, (1 / 2 + 1 / 3) / 2, 1 / 4])
    assert fit.totalIterations == 3


def test_out_of_bag_accuracies_are_those_of_the_votes(votes):
    fit = fit_of_two_members(outOfBag=votes)
    assert fit.memberTable["oobAccuracy"].tolist() == votes.memberAccuracies.tolist()
    assert fit.oobAccuracy == votes.accuracy


def test_without_a_sample_there_is_no_out_of_bag_accuracy():
    fit = fit_of_two_members()
    assert fit.oobAccuracy is None
    assert "oobAccuracy" not in fit.memberTable


def test_a_member_that_0_1_0_saved_kept_its_last_epoch():
    values = {name: value for name, value in fit_of_two_members().members[1].to_dict().items() if name != "keptEpoch"}
    check_member(json.loads(json.dumps(values)), 2)
    assert MemberSummary.from_dict(values).keptEpoch == 3


def test_a_member_has_the_classes_and_epochs_of_its_history():
    member = fit_of_two_members().members[1]
    assert (member.classes, member.epochs) == ((0, 1), 3)


@pytest.fixture
def saved(votes):
    """A fit with every entry, as JSON gives it back."""
    fit = fit_of_two_members(
        unusedRows=3, resumedMembers=(1,), missingMembers={2: "Member 2 diverged."}, outOfBag=votes
    )
    return fit, json.loads(json.dumps(fit.to_dict()))


def test_a_fit_survives_json(saved):
    fit, values = saved
    again = FitResult.from_dict(values, fit.members)
    assert again == fit
    assert again.missingMembers == {2: "Member 2 diverged."}
    check_fit_result(values, 2, 4)


def test_a_member_survives_json():
    member = fit_of_two_members().members[1]
    values = json.loads(json.dumps(member.to_dict()))
    assert MemberSummary.from_dict({**values, "of a later version": 1}) == member
    check_member(values, 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keptEpoch", 3, "keptEpoch is 3 instead of an integer in 0 to 2"),
        ("rows", -1, "rows is -1 instead of an integer >= 0"),
        ("seconds", "1", r"seconds is \['1'\] instead of 1 values of type int or float"),
        ("classCounts", [1], r"classCounts is \[1\] instead of 2 values of type int"),
        ("history", {"loss": [], "accuracy": []}, "history has no epochs"),
        ("history", {"loss": [1.0], "accuracy": [1.0], "page": [1.0]}, "an unknown measure"),
    ],
)
def test_a_faulty_entry_of_a_member_is_named(name, value, message):
    values = json.loads(json.dumps(fit_of_two_members().members[0].to_dict()))
    with pytest.raises(ValueError, match=message):
        check_member({**values, name: value}, 2)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("skippedRows", 0.5, "skippedRows is 0.5"),
        ("resumedMembers", [-1], "resumedMembers is -1"),
        ("missingMembers", {"1": 3}, "missingMembers is"),
    ],
)
def test_a_faulty_entry_of_a_fit_is_named(saved, name, value, message):
    with pytest.raises(ValueError, match=message):
        check_fit_result({**saved[1], name: value}, 2, 4)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("numClasses", 5, "numClasses of the out-of-bag votes differs"),
        ("labels", [4] * 200, "labels are not all in 0 to 3"),
        ("predictions", [0], "predictions is"),
        ("votes", [[0, 1]], "votes and labels differ in length"),
    ],
)
def test_faulty_votes_of_a_fit_are_named(saved, name, value, message):
    values = saved[1]
    values["outOfBag"][name] = value
    with pytest.raises(ValueError, match=message):
        check_fit_result(values, 2, 4)
