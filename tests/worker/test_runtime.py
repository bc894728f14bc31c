"""TensorFlow starts with the cores of the task, unless other code started it."""

import os

from support.processes import output_of, start_python

from spark_cnn_ensemble.worker.runtime import load_tensorflow


def test_tensorflow_that_other_code_has_used_is_taken_as_it_is(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(os, "environ", os.environ.copy())  # the GPUs are set there
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    assert (tf.constant(1) + 1).numpy() == 2
    assert load_tensorflow(threads=threads + 3, gpus=[]) is tf
    assert tf.config.threading.get_intra_op_parallelism_threads() == threads
    assert tf.constant(2).numpy() == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


def test_a_process_has_the_threads_of_its_first_call():
    process = start_python(
        """
        from spark_cnn_ensemble.worker.runtime import load_tensorflow
        tf = load_tensorflow(threads=3, gpus=[])
        print(tf.config.threading.get_intra_op_parallelism_threads(), (tf.constant(1) + 1).numpy())
        print(load_tensorflow(threads=5).config.threading.get_intra_op_parallelism_threads())
        """
    )
    assert output_of(process) == ["3 2", "3"]
