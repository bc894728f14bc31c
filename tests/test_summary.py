"""The training summary: a fit's record that shows itself as HTML.

Its page is in test_report.py, its event files in test_event_files.py.
"""

import json

from support.member_votes import member_votes, out_of_bag_of
from support.results import summary

from spark_cnn_ensemble import CNNEnsembleTrainingSummary


def test_a_summary_survives_json():
    fit = summary(
        members=2,
        epochs=[2, 3],
        out_of_bag=out_of_bag_of(*member_votes(members=2)),
        unusedRows=3,
        resumedMembers=(1,),
        missingMembers={2: "Member 2 diverged."},
    )
    again = CNNEnsembleTrainingSummary.from_dict(json.loads(json.dumps(fit.to_dict())), fit.members)
    assert again == fit
    assert again._repr_html_() == fit._repr_html_()


def test_a_summary_shows_itself_as_escaped_html():
    html = summary(missingMembers={7: "<script>alert(1)</script>"})._repr_html_()
    assert "member 7 is missing" in html and "<script>" not in html
