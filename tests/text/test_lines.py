"""Lines of text become numbers: correctly rounded float32, the same by the fast and by the general way."""

import numpy as np
import pytest

from spark_cnn_ensemble.text.lines import Layout, line_fault, parse, parse_any, parse_fixed_width


def parsed(parser, tokens, columns=1, sep=" "):
    """The rows that a parser makes of tokens, `columns` per line."""
    lines = [sep.join(tokens[i : i + columns]) for i in range(0, len(tokens), columns)]
    return parser("".join(line + "\n" for line in lines).encode(), Layout(columns, sep, None, 1.0))


def parse_in_general(block, layout):
    return parse_any(block, layout, tidy=False)


@pytest.fixture(scope="module")
def values():
    """Numbers of many sizes, among them those near the middle between two float32 numbers."""
    rng = np.random.default_rng(3)
    return np.concatenate(
        [
            rng.normal(size=3000) * 10.0 ** rng.integers(-50, 50, 3000),
            rng.random(3000),
            rng.integers(0, 1 << 24, 3000),
            np.nextafter(rng.random(3000, np.float32), 2, dtype=np.float32).astype(float) + 2.0**-26,
            [0.0, -0.0, np.inf, -np.inf, 1e-320, 1e300, 3.4028235e38, 3.4028236e38, 1.4e-45, 7e-46],
        ]
    )


@pytest.mark.parametrize("form", ["%.18e", "%r", "%.6g", "%.30f"])
def test_numbers_are_correctly_rounded(values, form):
    tokens = [form % value for value in values.tolist()]
    ours = parsed(parse, tokens).values.ravel()
    with np.errstate(over="ignore"):
        twice = np.array([float(token) for token in tokens]).astype(np.float32)
    # Ours are rounded once. Python's float and numpy round twice, which differs if the first rounding gives the middle
    # between two float32 numbers.
    assert (np.signbit(ours) == np.signbit(twice)).all()
    for at in np.flatnonzero(ours != twice):
        middle = (float(ours[at]) + float(twice[at])) / 2
        assert float(tokens[at]) == middle


def test_the_fast_way_gives_the_numbers_of_the_general_way():
    rng = np.random.default_rng(4)
    values = np.concatenate(
        [np.arange(70_000), rng.integers(0, 10_000_000, 20_000), rng.integers(0, 10_000_000, 10_000) / 1000]
    )
    tokens = [f"{value:.18e}" for value in values if not 0 < value < 1]
    tokens = [token for token in tokens if token[8:20] == "0" * 12]
    tokens = tokens[: len(tokens) // 10 * 10]
    assert len(tokens) > 70_000
    fast = parsed(parse_fixed_width, tokens, 10)
    general = parsed(parse_in_general, tokens, 10)
    assert np.array_equal(fast.values, general.values) and np.array_equal(fast.starts, general.starts)
    assert np.array_equal(fast.values.ravel(), np.array(tokens, float).astype(np.float32))


ONE = f"{1:.18e}"


@pytest.mark.parametrize(
    "other",
    [*(f"{value:.18e}" for value in (0.5, 1e7, 12345678, 1.00000001)), ONE.replace(".", ",")],
    ids=["below 1", "10 million", "eight digits", "many decimals", "a comma"],
)
def test_the_fast_way_leaves_other_numbers_to_the_general_way(other):
    assert parsed(parse_fixed_width, [ONE, other, ONE, ONE, ONE, ONE], 3) is None


@pytest.mark.parametrize("wrong", "x e+-")
def test_the_fast_way_takes_no_number_with_a_wrong_character(wrong):
    broken = {ONE[:at] + wrong + ONE[at + 1 :] for at in range(len(ONE))} - {ONE}
    assert [token for token in broken if parsed(parse_fixed_width, [ONE, token, ONE], 3) is not None] == []


@pytest.mark.parametrize("sep", [" ", "\t"])
def test_the_fast_way_takes_any_separator_of_one_byte(sep):
    assert parsed(parse_fixed_width, [ONE, ONE, ONE], 3, sep).values.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("line", "sep"),
    [
        ("1 2 3", " "),
        ("-1.5 1e2 +3", " "),
        ("nan inf 3", " "),
        ("1, 2 ,\t3 \r", ","),
        ("", " "),
        ("  ", ","),
        ("\r", " "),
    ],
    ids=["whole numbers", "signs and exponents", "nan and inf", "spaces around numbers", "empty", "spaces", "line end"],
)
def test_sound_and_blank_lines_have_no_fault(line, sep):
    assert line_fault(line.encode(), Layout(3, sep, "last", 1.0)) is None
