"""TensorFlow starts with the cores and GPUs of the task, unless other code started it, and changes nothing else."""

import os

import pytest
from support.cuda import Cuda
from support.processes import output_of, start_python

from spark_cnn_ensemble.worker.runtime import load_tensorflow


def test_tensorflow_that_other_code_has_used_is_taken_as_it_is():
    import tensorflow as tf

    before = dict(os.environ)
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    assert (tf.constant(1) + 1).numpy() == 2
    assert load_tensorflow(threads=threads + 3, gpus=[]) is tf
    assert tf.config.threading.get_intra_op_parallelism_threads() == threads
    assert tf.constant(2).numpy() == 2
    assert dict(os.environ) == before


@pytest.fixture(scope="module")
def two_starts():
    """What a process prints that starts TensorFlow twice, with other threads."""
    process = start_python(
        """
        import gc
        from spark_cnn_ensemble.worker.runtime import load_tensorflow
        collections = []
        gc.callbacks.append(lambda *about: collections.append(about))
        tf = load_tensorflow(threads=3, gpus=[])
        gc.callbacks.clear()
        print(tf.config.threading.get_intra_op_parallelism_threads(), (tf.constant(1) + 1).numpy())
        print(load_tensorflow(threads=5).config.threading.get_intra_op_parallelism_threads())
        print(len(collections), gc.isenabled())
        """
    )
    return output_of(process)


@pytest.mark.slow
def test_a_process_has_the_threads_of_its_first_call(two_starts):
    assert two_starts[:2] == ["3 2", "3"]


@pytest.mark.slow
def test_garbage_is_collected_after_the_import_but_not_during_it(two_starts):
    collections, enabled = two_starts[2].split()
    assert int(collections) < 10
    assert enabled == "True"


@pytest.mark.slow
def test_threads_that_start_tensorflow_at_once_leave_stderr_and_the_environment_as_they_were():
    process = start_python(
        """
        import os, sys, threading
        from spark_cnn_ensemble.worker.runtime import load_tensorflow
        before, start = (os.fstat(2), dict(os.environ)), threading.Barrier(4)
        def load():
            start.wait()
            load_tensorflow()
        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(os.path.samestat(os.fstat(2), before[0]), "KERAS_BACKEND" in os.environ)
        """
    )
    assert output_of(process) == ["True False"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "seen"), [(["0", "GPU-7"], ("0,GPU-7", "PCI_BUS_ID")), ([], ("unset", "unset"))], ids=["two", "none"]
)
def test_cuda_starts_with_the_gpus_of_the_task(gpus, seen, tmp_path, monkeypatch):
    cuda = Cuda(tmp_path)
    for name, value in cuda.environment.items():
        monkeypatch.setenv(name, value)
    process = start_python(
        f"""
        import os
        from spark_cnn_ensemble.worker.runtime import load_tensorflow
        tf = load_tensorflow(threads=1, gpus={gpus})
        assert not {{"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}} & set(os.environ)
        print((tf.constant(1) + 1).numpy())
        """
    )
    assert output_of(process) == ["2"]
    assert cuda.started() == [seen]
