"""Models and estimators survive copy.deepcopy and pickle, before and after use, also without a Spark session."""

import copy
import pickle
import subprocess
import sys

import pytest
from pyspark import cloudpickle
from support.classifiers import small
from support.members import digests
from support.scored import predictions_by_id

from spark_cnn_ensemble import CNNEnsembleClassificationModel, CNNEnsembleClassifier

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "cloudpickle": lambda value: pickle.loads(cloudpickle.dumps(value)),
}


def values(instance):
    """Set values and defaults by the names of the Params."""
    return {param.name: value for param, value in instance.extractParamMap().items()}


@pytest.fixture(scope="module")
def loaded(model, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("saved") / "model")
    model.save(path)
    return CNNEnsembleClassificationModel.load(path)


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", ["fitted", "loaded"])
def test_a_copy_of_a_model_votes_alike_and_is_independent(model, loaded, test, how, kind):
    original = {"fitted": model, "loaded": loaded}[kind]
    expected = predictions_by_id(original, test)  # the weights are shared with workers now
    copied = COPIES[how](original)
    assert copied.uid == original.uid
    assert values(copied) == values(original)
    assert digests(copied) == digests(original)
    assert copied.summary == original.summary
    assert predictions_by_id(copied, test) == expected
    copied.setVotingStrategy("soft")
    assert original.getVotingStrategy() == "hard"


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_an_estimator_has_its_values(how):
    classifier = small(thresholds=[0.5] * 10)
    copied = COPIES[how](classifier)
    assert (copied.uid, values(copied)) == (classifier.uid, values(classifier))
    assert copied.isSet("epochs") and not copied.isSet("batchSize")
    copied.setEpochs(7)
    assert classifier.getEpochs() == 1


def test_a_copy_of_a_copy_can_be_copied_and_saved(model, tmp_path):
    copied = copy.deepcopy(pickle.loads(pickle.dumps(model.copy({model.votingStrategy: "soft"}))))
    copied.copy({copied.numMembers: 3}).save(str(tmp_path / "model"))
    assert CNNEnsembleClassificationModel.load(str(tmp_path / "model")).getVotingStrategy() == "soft"


def test_a_pickle_needs_no_spark_session(model, vectors, tmp_path):
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    program = (
        "import pickle, sys\n"
        "from pyspark.sql import SparkSession\n"
        "model = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(model.predict([float(number) for number in sys.argv[2].split(',')]))\n"
        "assert SparkSession.getActiveSession() is None\n"
    )
    cell = ",".join(map(str, vectors[0]))
    command = [sys.executable, "-c", program, str(tmp_path / "model.pickle"), cell]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(printed.split()[-1]) == model.predict(vectors[0])


def test_param_maps_can_be_pickled():
    classifier = CNNEnsembleClassifier()
    maps = [{param: 1} for param in classifier.params] + [{classifier.learningRate: 0.1, classifier.epochs: 3}]
    copied = pickle.loads(pickle.dumps(maps))
    assert copied == maps
    assert classifier.copy(copied[-1]).getEpochs() == 3
