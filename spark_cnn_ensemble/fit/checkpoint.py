"""The folder of finished members (checkpointDir).

    checkpointDir/
      fit/                one line of JSON: the fit that the members belong to, by params, shape and versions
      attempt=…/          one per call of fit: Parquet rows of `worker.training.TRAINED_SCHEMA`, one file per task

A task's file moves into place when the task ends, and stays there if the fit fails later. Fits that run at once write
to different attempts. A member is finished if its weights match the SHA-256 in its report. Called by the estimator and
by `members`.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine import engine_of
from spark_cnn_ensemble.engine.paths import refuse_pattern
from spark_cnn_ensemble.engine.shared_weights import collect_weights, write_as_tasks_end
from spark_cnn_ensemble.worker.bag import FINGERPRINT_MODULUS
from spark_cnn_ensemble.worker.training import REPORTED, TRAINED_SCHEMA
from spark_cnn_ensemble.worker.weights import digest

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Finished:
    """A finished member.

    Parameters
    ----------
    report : dict
        See `worker.training.train_member`.
    weights : bytes
        Packed.
    attempt : str
        The call of fit that trained it.
    """

    report: dict[str, Any]
    weights: bytes
    attempt: str


class Checkpoint:
    """The folder of one fit.

    Parameters
    ----------
    spark : SparkSession
    path : str
        On any filesystem that Hadoop knows.
    identity : dict
        What the members depend on, except the rows; plain values for JSON.

    Raises
    ------
    OSError
        Nothing can be written to the folder, or Spark has no jar for its filesystem.
    ValueError
        The folder holds members of another fit, or Spark would read its path as a pattern.
    """

    def __init__(self, spark: SparkSession, path: str, identity: dict[str, Any]) -> None:
        refuse_pattern(path, "checkpointDir")
        self._spark = spark
        self._path = path.rstrip("/")
        self._attempt = f"a-{uuid.uuid4().hex}"
        identity = json.loads(json.dumps({"formatVersion": FORMAT_VERSION, **identity}))
        files, folder = engine_of(spark).files, f"{self._path}/fit"
        try:
            old = files.exists(f"{self._path}/_fit.json")
            lines = files.lines(folder) if files.exists(folder) else []
            lost = not lines and not old and bool(files.matches(f"{self._path}/attempt=*"))
            if not lines and not old and not lost:
                files.add(folder, "fit.json", json.dumps(identity, sort_keys=True))
                lines = files.lines(folder)
        except OSError as error:
            raise OSError(f"checkpointDir '{path}' cannot be used: {error}") from None
        if old:
            raise ValueError(
                f"checkpointDir '{path}' was written by version 0.1 of spark_cnn_ensemble, whose members are not "
                "resumed; set another folder, or delete this one."
            )
        if lost:
            raise ValueError(
                f"checkpointDir '{path}' has members, but no file in its folder fit that names their fit; "
                "set another folder, or delete this one."
            )
        # Fits that begin at once may each have added a file, where an engine cannot prevent it.
        for line in lines:
            self._check_identity(line.text, identity)

    def _check_identity(self, text: str, identity: dict[str, Any]) -> None:
        try:
            other = json.loads(text)
        except ValueError:
            other = None
        if not isinstance(other, dict):
            raise ValueError(
                f"checkpointDir '{self._path}' has a damaged file in its folder fit; set another folder, or delete "
                "this one."
            )
        other, identity = _leaves(other), _leaves(identity)
        differing = [name for name in sorted({*other, *identity}) if other.get(name) != identity.get(name)]
        if differing:
            differences = "; ".join(
                f"{name} is {_short(other.get(name))} there, {_short(identity.get(name))} here" for name in differing
            )
            raise ValueError(
                f"checkpointDir '{self._path}' holds members of another fit ({differences}); set another folder, or "
                "delete this one."
            )

    def finished(self) -> dict[int, Finished]:
        """The finished members in the folder, by their numbers."""
        if not engine_of(self._spark).files.matches(f"{self._path}/attempt=*"):
            return {}
        finished: dict[int, Finished] = {}
        parts = self._parts()
        reported = parts.where(F.col("part") == 0).select("attempt", "member", "report").collect()
        by_attempt: dict[str, dict[int, dict[str, Any]]] = {}
        for row in reported:
            report = _report(row["report"])
            if report is not None:
                by_attempt.setdefault(row["attempt"], {})[row["member"]] = report
        for attempt in sorted(by_attempt):
            reports = {
                member: report
                for member, report in sorted(by_attempt[attempt].items())
                if member not in finished and "failure" not in report
            }
            weights = collect_weights(
                parts.where(F.col("attempt") == attempt), {member: report["size"] for member, report in reports.items()}
            )
            for member, report in reports.items():
                if digest(weights[member]) == report["sha256"]:
                    finished[member] = Finished(report, weights[member], attempt)
        return finished

    def check_rows(self, finished: dict[int, Finished], bagged: DataFrame) -> None:
        """Refuse rows that the finished members were not trained on; runs a job over the rows' keys.

        Raises
        ------
        ValueError
            The bag of a finished member differs; the message names the member.
        """

        def residue(key: str) -> Any:
            return F.pmod(F.col(key), F.lit(FINGERPRINT_MODULUS))

        sums = bagged.groupBy("member").agg(
            F.count(F.lit(1)), F.sum(residue("row_key") * (F.col("copies") + 1)), F.sum(residue("content_key"))
        )
        now = {row[0]: list(row[1:]) for row in sums.collect()}
        for member, before in sorted(finished.items()):
            fingerprint = list(before.report["fingerprint"])
            if fingerprint != now.get(member):
                raise ValueError(
                    f"checkpointDir '{self._path}' holds members of another fit (member {member} was trained on "
                    f"{fingerprint[0]} rows that are not the {now.get(member, [0])[0]} of its bag now); fit the same "
                    "rows, or set another folder."
                )

    def write(self, trained: DataFrame) -> None:
        """Train the members; the file of each is in the folder as soon as its task ends."""
        write_as_tasks_end(trained, f"{self._path}/attempt={self._attempt}")

    def discard(self) -> None:
        """Delete what this attempt wrote, and the identity of the fit unless other attempts need it."""
        files = engine_of(self._spark).files
        files.delete(f"{self._path}/attempt={self._attempt}")
        if not files.matches(f"{self._path}/attempt=*"):
            files.delete(f"{self._path}/fit")

    def trained(self) -> DataFrame:
        """The rows that this attempt wrote."""
        return self._parts().where(F.col("attempt") == self._attempt)

    def of(self, finished: dict[int, Finished]) -> DataFrame:
        """The rows of finished members in the folder."""
        chosen = F.lit(False)
        for attempt in sorted({one.attempt for one in finished.values()}):
            members = [member for member, one in finished.items() if one.attempt == attempt]
            chosen = chosen | ((F.col("attempt") == attempt) & F.col("member").isin(members))
        return self._parts().where(chosen)

    def _parts(self) -> DataFrame:
        # A truncated file is skipped; its member then counts as not finished.
        reader = self._spark.read.schema(f"{TRAINED_SCHEMA}, attempt string").option("ignoreCorruptFiles", "true")
        return reader.option("basePath", self._path).parquet(f"{self._path}/attempt=*")


def _report(text: str) -> dict[str, Any] | None:
    """A member's report; None if it is damaged."""
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) and set(report) >= REPORTED else None


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries, by dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
