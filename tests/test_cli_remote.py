"""The command line with --remote: commands run on a Spark Connect server, which reads and writes every path.

The client sees an empty disk where the server has pictures and models. What goes wrong is one sentence.
"""

import json
from textwrap import dedent

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.connect_server import connect_server, free_port
from support.processes import output_of, start_python
from test_cli_errors import assert_one_sentence

from spark_cnn_ensemble.cli import main
from spark_cnn_ensemble.datasets import write_text_matrix

CLIENT = """
import contextlib, io, json, subprocess, sys

__file__ = "client"  # PySpark takes a main module without a file for its own doctests, which it skips without grpc

def run(*arguments):
    '''Exit code, output and errors of a command.'''
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """URL without a token, and with one, of a server that asks for it; a folder."""
    folder = tmp_path_factory.mktemp("remote")
    with connect_server(folder / "log", **{"spark.connect.authenticate.token": "open-sesame"}) as url:
        url = url.replace("127.0.0.1", "localhost")  # elsewhere, a token needs TLS
        yield url, f"{url}/;token=open-sesame", folder


def test_commands_run_on_the_server_with_its_paths(server, digits):
    _, url, folder = server
    data = folder / "data"
    for index, (image, label) in enumerate(zip(digits[0][0][:200], digits[0][1][:200], strict=True)):
        (data / "photos" / f"digit {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(data / "photos" / f"digit {label}" / f"{index}.png")
    images, labels = digits[1][0].reshape(-1, 64)[:50] * 15.0, digits[1][1][:50]
    write_text_matrix(data / "text", images, labels)
    np.savetxt(data / "rows.csv", np.column_stack([images, labels]), fmt="%d", delimiter=",")
    (data / "table").mkdir()
    pq.write_table(pa.table({"features": list(images), "label": labels}), data / "table" / "part.parquet")
    code = """
        folder, url = sys.argv[1:]
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
        from spark_cnn_ensemble.cli import main
        pictures = ["--input", f"{folder}/photos", "--format", "images", "--remote", url]
        small = ["--num-members", "2", "--filters", "4", "--dense-units", "8", "--epochs", "1", "--verbose", "0"]
        print(json.dumps([
            run("train", *pictures, "--output", f"{folder}/model/", *small),
            run("evaluate", *pictures, "--model", f"{folder}/model"),
            run("score", *pictures, "--model", f"{folder}/model", "--output", f"{folder}/scored/"),
            run("score", *pictures, "--model", f"{folder}/model", "--output", f"{folder}/scored"),
            *[
                run("evaluate", "--input", f"{folder}/{name}", "--format", form, "--remote", url, "--model", f"{folder}/model")
                for form, name in (("text", "text"), ("csv", "rows.csv"), ("parquet", "table"))
            ],
        ]))
    """
    *_, line = output_of(start_python(CLIENT + dedent(code), data, url, before=["unshare", "-rm"]), timeout=400)
    trained, evaluated, scored, again, *other_forms = json.loads(line)
    assert trained[0] == 0, trained[2]
    assert "10 classes: digit 0 " in trained[1] and "Trained 2 members on 200 rows" in trained[1]
    assert evaluated[0] == 0 and "rows 200 (0 left out)" in evaluated[1], evaluated[2]
    assert scored[0] == 0 and "Scored rows written to " in scored[1], scored[2]
    assert again[0] == 1
    assert_one_sentence(again[2], f"Path {data / 'scored'} exists already")
    assert (data / "scored" / "_SUCCESS").exists()
    assert [code for code, _, _ in other_forms] == [0, 0, 0], other_forms
    assert len({output for _, output, _ in other_forms}) == 1 and "rows 50 (0 left out)" in other_forms[0][1]


@pytest.fixture(scope="module")
def refusals(server):
    """By case, what a command prints on stderr that gets no session."""
    url, good, _ = server
    code = """
        url, good, nobody = sys.argv[1:]
        answers = {}
        def case(name, remote):
            code, _, answers[name] = run("evaluate", "--input", "x", "--model", "y", "--remote", remote)
            assert code == 1
        from spark_cnn_ensemble.cli import main
        sys.modules["grpc"] = None
        case("no package", good)
        del sys.modules["grpc"]
        case("no URL", "spark://localhost:7077")
        case("no port", "sc://localhost:x/;token=secret")
        case("nobody", nobody)
        case("wrong token", f"{url}/;token=secret")
        import pyspark
        pyspark.sql.SparkSession.active().stop()
        pyspark.__version__ = "99.0.0"
        case("old server", good)
        print(json.dumps(answers))
    """
    *_, line = output_of(start_python(CLIENT + dedent(code), url, good, f"sc://127.0.0.1:{free_port()}"))
    return json.loads(line)


REFUSALS = {
    "no package": r"needs the package grpcio, which is not installed; pip install 'spark-cnn-ensemble\[connect\]'",
    "no URL": r"URL of the Spark Connect server is not valid; give sc://HOST:PORT, or with a token",
    "no port": r"URL of the Spark Connect server is not valid; give sc://HOST:PORT, or with a token",
    "nobody": r"No Spark Connect server answers at 127\.0\.0\.1:\d+; check the URL, and that the server runs",
    "wrong token": r"refuses the token; check token= in the URL",
    "old server": r"pyspark 99\.0\.0 is newer than the Spark Connect server .* install an older one: pip install 'pyspark\[connect\]==4\.\d\.\*'",
}


@pytest.mark.parametrize("case", REFUSALS)
def test_no_session_is_one_sentence(refusals, case):
    assert_one_sentence(refusals[case], REFUSALS[case])
    assert "secret" not in refusals[case]


def test_a_command_has_a_master_or_a_server(capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--input", "x", "--model", "y", "--master", "local[2]", "--remote", "sc://localhost"])
    assert "argument --remote: not allowed with argument --master" in capsys.readouterr().err
