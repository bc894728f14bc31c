"""Each check of JSON from outside refuses another type or range, and names the entry."""

import pytest

from spark_cnn_ensemble.checked import check_classes, check_each, check_int, check_list, shortened


def test_a_list_is_accepted():
    assert check_list([1]) == [1]


@pytest.mark.parametrize("value", [(1,), "1", {"1": 1}, None, 3], ids=repr)
def test_what_is_not_a_list_is_refused(value):
    with pytest.raises(TypeError, match="expected a list, found"):
        check_list(value)


@pytest.mark.parametrize("value", [0, 5, 2**63 - 1])
def test_an_integer_in_range_is_accepted(value):
    check_int("rows", value)


@pytest.mark.parametrize("value", [-1, 2**63, 1.0, True, "1", None, [1]], ids=repr)
def test_what_is_not_an_integer_in_range_is_refused_by_name(value):
    with pytest.raises(ValueError) as refusal:
        check_int("rows", value)
    assert str(refusal.value) == f"rows is {value} instead of an integer >= 0"


@pytest.mark.parametrize("value", [1, 5])
def test_the_bounds_of_an_integer_are_named(value):
    with pytest.raises(ValueError, match=f"label is {value} instead of an integer in 2 to 4"):
        check_int("label", value, 2, 5)


@pytest.mark.parametrize(
    ("kind", "values"), [(int, [1, 2]), (str, ["a", "b"]), ((int, float), [1, 2.5]), (bool, [True, False])]
)
def test_values_of_one_type_are_accepted(kind, values):
    assert check_each(kind, "entries", values, 2) is values


@pytest.mark.parametrize(
    ("kind", "values", "names"),
    [
        (int, [1], "int"),
        (int, [1, 2, 3], "int"),
        (int, [1, 2.0], "int"),
        (int, [1, True], "int"),
        (str, ["a", None], "str"),
        ((int, float), [1, "2"], "int or float"),
        (bool, [True, 1], "bool"),
    ],
)
def test_values_of_another_type_or_number_are_refused_by_name(kind, values, names):
    with pytest.raises(ValueError) as refusal:
        check_each(kind, "entries", values, 2)
    assert str(refusal.value) == f"entries is {values} instead of 2 values of type {names}"


@pytest.mark.parametrize(
    "check", [check_each, lambda *values: check_classes(*values[1:], 0, 2)], ids=["each", "classes"]
)
def test_values_must_be_in_a_list(check):
    with pytest.raises(TypeError, match="expected a list, found"):
        check(int, "labels", "01", 2)


@pytest.mark.parametrize(("values", "length"), [([0, 3, -1], 3), ([], 0)])
def test_classes_in_range_are_accepted(values, length):
    check_classes("predictions", values, length, -1, 4)


@pytest.mark.parametrize("values", [[-2, 0], [0, 4]])
def test_classes_out_of_range_are_refused_by_name(values):
    with pytest.raises(ValueError, match="predictions are not all in -1 to 3"):
        check_classes("predictions", values, 2, -1, 4)


@pytest.mark.parametrize("values", [[0], [0, 1.0], [0, True]])
def test_classes_of_another_type_or_number_are_refused_by_name(values):
    with pytest.raises(ValueError, match="predictions is"):
        check_classes("predictions", values, 2, -1, 4)


def test_a_long_value_is_shown_on_one_short_line():
    assert shortened("a\n b") == "a b"
    assert shortened("x" * 101) == "x" * 97 + "..."
    assert shortened("x" * 100) == "x" * 100
