"""Files of libsvm that end with zeros have shorter vectors; the refusal says how to read them, and that works."""

import numpy as np
import pytest
from support.classifiers import small
from support.refusals import refused


@pytest.fixture
def shorter(spark, tmp_path, digits):
    """A reader of the digits' test rows in a file of libsvm whose largest index is 62, of 64."""
    (_, _), (x, y) = digits
    rows = [
        f"{label} " + " ".join(f"{at + 1}:{row[at]}" for at in np.flatnonzero(row[:62]))
        for row, label in zip(x.reshape(-1, 64), y, strict=True)
    ]
    (tmp_path / "digits.svm").write_text("\n".join(rows))
    return lambda **options: spark.read.format("libsvm").options(**options).load(str(tmp_path / "digits.svm"))


REMEDY = r"libsvm leaves out zeros, so read the file with spark\.read\.format\('libsvm'\)\.option\('numFeatures', 64\)"


def test_a_file_with_shorter_vectors_is_refused_by_a_model_and_the_remedy_works(model, shorter):
    for call in (model.transform, model.evaluate):
        with pytest.raises(
            ValueError, match=rf"has 62 numbers per row, but inputShape \[8, 8, 1\] needs 64; {REMEDY}\.$"
        ):
            call(shorter())
    assert model.transform(shorter(numFeatures=64)).count() == 360
    assert model.evaluate(shorter(numFeatures=64)).accuracy > 0.8


def test_a_file_with_shorter_vectors_is_refused_by_fit_and_the_remedy_works(shorter):
    assert refused(small(inputShape=None).fit, shorter()).endswith(
        "is not a square image with one channel; libsvm leaves out zeros, so read the file with "
        "spark.read.format('libsvm').option('numFeatures', 64), or set 'inputShape' to [height, width, channels]."
    )
    assert small(inputShape=None).fit(shorter(numFeatures=64)).inputShape == [8, 8, 1]


def test_longer_vectors_than_a_models_are_refused(model, shorter):
    with pytest.raises(ValueError, match=r"has 70 numbers per row, but .* needs 64; give vectors of that length\.$"):
        model.transform(shorter(numFeatures=70))
