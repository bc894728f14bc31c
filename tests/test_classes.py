"""Rare classes: members that never saw one are reported, and balanced weights and repeated rows help."""

import warnings

import numpy as np
import pytest
from pyspark.ml.feature import StringIndexer
from pyspark.sql import functions as F
from support.classifiers import small
from support.members import digests

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.text_tables import member_table


@pytest.fixture(scope="module")
def one_of_class_1(train):
    """1,000 digits, only one of them of class 1."""
    one = train.where("label = 1").orderBy("id").limit(1)
    return train.where("label != 1").orderBy("id").limit(999).union(one).cache()


FOUR_BAGS = {"numMembers": 4, "oobSampleSize": 1000, "idCol": "id"}
LEARNS = {"filters": [8, 16], "denseUnits": 32, "epochs": 15, "learningRate": 4e-3}


@pytest.fixture(scope="module")
def missed(one_of_class_1):
    """A model of four disjoint bags, and the warnings of its fit."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        return small(**FOUR_BAGS, **LEARNS).fit(one_of_class_1), [str(warning.message) for warning in caught]


REMEDY = (
    "; set fewer members (numMembers) or bags with more of the rows (bagging='subsample' or 'bootstrap' and "
    "subsamplingRate), or repeat the rows of rare classes (user guide, page Choosing)."
)


def test_members_that_never_saw_a_class_are_warned_of_once(missed):
    _, messages = missed
    assert messages == [
        "Some members never saw a class that others saw, and hardly ever vote for it (3 of 4: class 1 (3 members))"
        f"{REMEDY}"
    ]


def test_a_missing_class_is_in_the_summary(missed):
    summary = missed[0].summary
    assert sorted(summary.memberTable["classes"]) == [9, 9, 9, 10]
    saw_it = int(summary.memberTable["classes"].idxmax())
    assert summary.unseenClasses == {member: (1,) for member in range(4) if member != saw_it}
    assert ("members that never saw a class", "3 of 4: class 1 (3 members)") in summary.facts()


def test_a_missing_class_is_in_the_table_of_the_command_line_and_in_the_report(missed, tmp_path):
    summary = missed[0].summary
    header, *lines = member_table(summary).splitlines()
    assert header.split()[:3] == ["member", "rows", "classes"]
    assert [int(line.split()[2]) for line in lines] == summary.memberTable["classes"].tolist()
    names = [f"<{label}>" for label in range(10)]
    summary.to_html(str(tmp_path / "report.html"), class_names=names)
    page = (tmp_path / "report.html").read_text()
    assert "Members that never saw a class that others saw: 3 of 4: class &#x27;&lt;1&gt;&#x27; (3 members)." in page
    assert '<th scope="col">classes</th>' in page


def test_recall_shows_what_accuracy_hides(missed):
    votes = missed[0].summary.outOfBag
    assert votes.recallByLabel[1] == 0
    facts = dict(missed[0].summary.facts())
    assert facts["out-of-bag recall of the classes"].endswith("lowest 0.00% (class 1, 1 row)")
    assert "lowest 0.00% (class 1, 1 row)" in repr(votes)


def test_missing_classes_survive_saving(missed, tmp_path):
    missed[0].save(str(tmp_path / "model"))
    loaded = CNNEnsembleClassificationModel.load(str(tmp_path / "model"))
    assert loaded.summary.unseenClasses == missed[0].summary.unseenClasses


def test_the_names_of_missing_classes_are_given(one_of_class_1):
    named = one_of_class_1.withColumn("name", F.concat(F.lit("digit "), "label"))
    indexer = StringIndexer(inputCol="name", outputCol="index", stringOrderType="alphabetAsc")
    classifier = small(numMembers=2, labelCol="index", idCol="id", numClasses=None)
    with pytest.warns(UserWarning, match=r"\(1 of 2: class 'digit 1' \(1 member\)\)"):
        classifier.fit(indexer.fit(named).transform(named))


def test_many_missing_classes_are_cut(train):
    few = train.orderBy("id").limit(12)
    with pytest.warns(UserWarning, match=r"\(4 of 4: (class \d \(\d members?\), ){5}\d more classes\)"):
        small(numMembers=4, idCol="id").fit(few)


def test_bags_with_every_class_give_no_warning(train):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = small(**FOUR_BAGS).fit(train)
    assert model.summary.unseenClasses == {}
    assert "classes" not in member_table(model.summary)
    assert not [name for name, _ in model.summary.facts() if "never saw" in name]


def test_repeated_rows_with_ids_of_their_own_bring_a_rare_class_to_every_bag(one_of_class_1):
    """As the guide shows."""
    copies = F.explode(F.sequence(F.lit(1), F.lit(40)))
    rare = one_of_class_1.where("label = 1").withColumn("copy", copies)
    common = one_of_class_1.where("label != 1").withColumn("copy", F.lit(0))
    repeated = common.unionByName(rare).withColumn("id", F.concat_ws("-", "id", "copy"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = small(**FOUR_BAGS).fit(repeated)
    assert [len(member.classes) for member in model.members] == [10] * 4


@pytest.fixture(scope="module")
def few_eights(train):
    """The digits with 10 of the 129 eights."""
    return train.where((F.col("label") != 8) | (F.col("id") % 12 == 0)).cache()


def test_balanced_weights_raise_the_recall_of_a_rare_class(few_eights, test):
    bags = {"bagging": "subsample", "subsamplingRate": 0.8, "idCol": "id"}
    learns = {**LEARNS, "epochs": 5}
    plain, balanced = (small(**bags, **learns, classWeighting=value).fit(few_eights) for value in ("none", "balanced"))
    before, after = plain.evaluate(test), balanced.evaluate(test)
    assert before.recallByLabel[8] < 0.2
    assert after.recallByLabel[8] > before.recallByLabel[8] + 0.3
    assert after.accuracy > before.accuracy
    assert np.nanmean(after.precisionByLabel) > 0.8


def test_param_maps_with_and_without_balanced_weights_share_a_job(few_eights):
    classifier = small(numMembers=2, idCol="id")
    maps = [{classifier.classWeighting: value} for value in ("none", "balanced")]
    plain, balanced = classifier.fit(few_eights, maps)
    assert digests(plain) == digests(classifier.fit(few_eights))
    assert digests(balanced) == digests(classifier.copy(maps[1]).fit(few_eights))
    assert not set(digests(plain)) & set(digests(balanced))
