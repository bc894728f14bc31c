"""What `transform` gives, collected by the rows' ids."""

import numpy as np

OUTPUTS = ["rawPrediction", "probability", "prediction"]


def votes_by_id(model, dataset):
    """{id: (rawPrediction, probability, prediction)} of each row."""
    return {row[0]: tuple(row[1:]) for row in model.transform(dataset).select("id", *OUTPUTS).collect()}


def predictions_by_id(model, dataset):
    """{id: prediction} of each row."""
    return dict(model.transform(dataset).select("id", "prediction").collect())


def scored_arrays(model, dataset):
    """rawPrediction, probability and prediction as arrays, in the order of the rows' ids."""
    rows = model.transform(dataset).select("id", *OUTPUTS).orderBy("id").collect()
    return {name: np.array([np.asarray(row[name]) for row in rows]) for name in OUTPUTS}


def assert_votes_close(outputs, expected):
    """Assert that votes, as `scored_arrays` gives them, are the same up to the precision of float32."""
    assert np.allclose(outputs["probability"], expected["probability"], atol=1e-5, rtol=0), "probability"
    assert np.allclose(outputs["rawPrediction"], expected["rawPrediction"], atol=1e-4, rtol=0), "rawPrediction"
    assert np.array_equal(outputs["prediction"], expected["prediction"]), "prediction"
