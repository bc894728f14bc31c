"""TensorBoard's event files of a fit have every member's curves."""

import pytest
from support.results import summary


def test_each_member_is_a_run_with_its_curves(tmp_path):
    import tensorflow as tf

    fit = summary(2, [2, 3])
    fit.to_tensorboard(str(tmp_path / "events"))
    for member in fit.members:
        (file,) = (tmp_path / "events" / f"member_{member.member}").iterdir()
        curves = {}
        for record in tf.data.TFRecordDataset(str(file)):
            for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                curves.setdefault(value.tag, []).append(float(tf.make_ndarray(value.tensor)))
        assert curves.keys() == member.history.keys()
        for name, curve in member.history.items():
            assert curves[name] == pytest.approx(curve)
