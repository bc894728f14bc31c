"""Made `model-v1` and `model-v1-votes.json` beside it, once, with the code that wrote format version 1 first.

Not to be run again for version 1: the point of these files is that an older release wrote them. When the format
changes, a script of its own makes a `model-v2` beside them, and both must load.
"""

import json
from pathlib import Path

import numpy as np
from pyspark.sql import SparkSession

from spark_cnn_ensemble import CNNEnsembleClassifier
from spark_cnn_ensemble.datasets import load_digits, to_dataframe

HERE = Path(__file__).parent
ROWS = 50  # of the test rows, whose votes are kept

if __name__ == "__main__":
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    train, (x, y) = load_digits()
    classifier = CNNEnsembleClassifier(
        numMembers=3,
        bagging="bootstrap",
        idCol="id",
        filters=[8],
        kernelSize=3,
        denseUnits=32,
        epochs=8,
        learningRate=5e-3,
        numClasses=10,
        inputShape=[8, 8, 1],
        seed=1,
    )
    model = classifier.fit(to_dataframe(spark, *train))
    images = x[:ROWS, ..., None].astype(np.float32)
    for member in range(3):  # no vote hangs on a rounding, which may differ between processors
        first, second = np.sort(np.asarray(model.memberNetwork(member)(images)), axis=1)[:, :-3:-1].T
        assert (first - second).min() > 1e-3, f"member {member} wavers"
    model.save(str(HERE / "model-v1"))
    rows = model.transform(to_dataframe(spark, x[:ROWS])).orderBy("id").collect()
    votes = [{"rawPrediction": row.rawPrediction.toArray().tolist(), "prediction": row.prediction} for row in rows]
    (HERE / "model-v1-votes.json").write_text("[\n" + ",\n".join(map(json.dumps, votes)) + "\n]\n")
    print(f"{np.mean([row.prediction for row in rows] == y[:ROWS]):.0%} of the {ROWS} rows are right")
    spark.stop()
