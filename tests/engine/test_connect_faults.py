"""Faults of a Spark Connect server and of its clients: a session that ends, a server that is restarted, killed saves.

A client is a driver of its own, which evaluates expressions.
"""

import os
import signal
import time

import pytest
from support.connect_server import connect_server, free_port
from support.drivers import QUICK, descendants, driver, wait_until

from spark_cnn_ensemble import CNNEnsembleClassificationModel

EXPIRY = 10  # seconds without a request after which the server ends a session
SETTINGS = {
    "spark.connect.session.manager.defaultSessionTimeout": f"{EXPIRY}s",
    "spark.connect.session.manager.maintenanceInterval": "1s",
}
ROWS = "globals().update(rows=to_dataframe(spark, *load_digits()[1]))"
# The old session is collected here: Spark 4.0 hangs if that happens while it sends a plan.
NEW_SESSION = (
    f"(globals().update(spark=(spark.stop(), new_session(url))[1]), {ROWS}, __import__('gc').collect()) and None"
)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client whose server is restarted: the client, its server's URL, and a function that restarts the server."""
    folder, port = tmp_path_factory.mktemp("faults"), free_port()
    servers = []

    def start(**settings):
        if servers:
            servers.pop().__exit__(None, None, None)
        settings["spark.connect.grpc.binding.port"] = port
        servers.append(connect_server(folder / f"log-{time.monotonic_ns()}", **settings))
        return servers[0].__enter__()

    url = start(**SETTINGS)
    with driver(folder, **{"spark.remote": url}) as running:
        running.ask(f"globals().update(url={url!r}, model=small(**{QUICK!r}).fit(rows))")
        running.ask(ROWS)
        running.ask("globals().update(before=scored(model, rows))")
        yield running, folder, start
    servers.pop().__exit__(None, None, None)


def end(running, folder, restart, how):
    """End the client's session on the server."""
    if how == "the server was restarted":
        restart()
    else:
        time.sleep(EXPIRY + 3)


@pytest.mark.parametrize("how", ["the session expired", "the server was restarted"])
def test_a_model_scores_in_a_new_session_after(client, how):
    running, folder, restart = client
    end(running, folder, restart, how)
    path = str(folder / how)
    assert "ession" in running.ask("error_of(lambda: scored(model, rows))")
    saved = running.ask(f"error_of(lambda: model.save({path!r}))")
    assert "call spark.stop(), get a new session by SparkSession.builder.remote(URL).getOrCreate()" in saved
    running.ask(NEW_SESSION)
    assert running.ask("scored(model, rows) == before")
    assert running.ask(f"model.save({path!r})") is None
    assert running.ask(f"scored(CNNEnsembleClassificationModel.load({path!r}), rows) == before")


def test_models_are_overwritten_and_loaded_at_once(client):
    running, folder, _ = client
    path = str(folder / "overwritten")
    running.ask(f"model.save({path!r})")
    errors, sizes = running.ask(f"save_and_load_at_once(model, {path!r}, 5, spark)")
    assert not errors
    assert len(sizes) > 3 and set(sizes) <= {1, 2, 4}
    assert len([one for one in (folder / "overwritten" / "members").iterdir() if one.name[0] not in "._"]) == 1
    running.ask(f"model.write().overwrite().save({path!r})")
    assert not list((folder / "overwritten" / "metadata").glob("_temporary"))


@pytest.mark.parametrize("first", [False, True], ids=["over a model", "of a new path"])
def test_a_client_that_is_killed_in_the_middle_of_a_save(client, spark, tmp_path, first):
    running, *_ = client
    path = tmp_path / ("new/0" if first else "model")
    running.ask(f"model.save({str(tmp_path / 'model')!r})")
    url = running.ask("url")
    with driver(tmp_path, **{"spark.remote": url}) as other:
        model = f"CNNEnsembleClassificationModel.load({str(tmp_path / 'model')!r})"
        other.start(f"save_first({model}, {str(tmp_path / 'new')!r})" if first else f"save_repeatedly({str(path)!r})")
        wait_until(lambda: len(list(path.glob("members/save=*"))) > (not first))
        os.kill(other.pid, signal.SIGKILL)
        wait_until(lambda: not descendants(other.pid))
    assert list(path.glob("metadata/part-*")) == [] if first else True, "the save was complete when it was killed"
    if not first:
        assert CNNEnsembleClassificationModel.load(str(path)).getNumMembers() == QUICK["numMembers"]
    running.ask(NEW_SESSION)  # it may have expired
    save = "model.save" if first else "model.write().overwrite().save"
    assert running.ask(f"{save}({str(path)!r})") is None
    assert CNNEnsembleClassificationModel.load(str(path)).getNumMembers() == QUICK["numMembers"]
