"""TensorFlow starts with the cores and GPUs of the task, unless other code started it, and changes nothing else."""

import os
import shutil
import subprocess

import pytest
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


# A CUDA without GPUs, which writes down what it would let TensorFlow see when it starts.
CUDA = """
#include <stdio.h>
#include <stdlib.h>
static const char *value(const char *name) { const char *v = getenv(name); return v ? v : "unset"; }
int cuInit(unsigned flags) {
    FILE *log = fopen(value("CUDA_LOG"), "a");
    fprintf(log, "%s %s\\n", value("CUDA_VISIBLE_DEVICES"), value("CUDA_DEVICE_ORDER"));
    fclose(log);
    return 100;
}
int cuDriverGetVersion(int *version) { *version = 12050; return 0; }
"""


@pytest.mark.parametrize(
    ("gpus", "seen"), [(["3"], "3 PCI_BUS_ID"), (["0", "GPU-7"], "0,GPU-7 PCI_BUS_ID"), ([], "unset unset")]
)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_cuda_starts_with_the_gpus_of_the_task(gpus, seen, tmp_path):
    (tmp_path / "cuda.c").write_text(CUDA)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", library, "cuda.c"], cwd=tmp_path)
    process = start_python(
        f"""
        import os
        from spark_cnn_ensemble.worker.runtime import load_tensorflow
        tf = load_tensorflow(threads=1, gpus={gpus})
        assert not {{"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"}} & set(os.environ)
        print((tf.constant(1) + 1).numpy())
        """,
        before=["env", f"LD_LIBRARY_PATH={tmp_path}", f"CUDA_LOG={tmp_path / 'log'}"],
    )
    assert output_of(process) == ["2"]
    assert (tmp_path / "log").read_text().splitlines() == [seen]
