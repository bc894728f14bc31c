"""The folder of finished members (checkpointDir).

    checkpointDir/
      _fit.json           the fit that the members belong to: params, shape, versions
      attempt=…/          one per call of fit: Parquet rows of `worker.training.TRAINED_SCHEMA`, one file per task

A task's file moves into place when the task ends, so that it outlives whatever happens to the fit. Fits that run at the
same time write to different attempts. A member is finished if its weights match the SHA-256 in its report.
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
from spark_cnn_ensemble.engine.weights import SMALL_ROW_GROUPS, collect_weights
from spark_cnn_ensemble.worker.bag import FINGERPRINT_MODULUS
from spark_cnn_ensemble.worker.training import REPORTED, TRAINED_SCHEMA
from spark_cnn_ensemble.worker.weights import digest

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Finished:
    """A finished member: its report, its weights, and the attempt that trained it."""

    report: dict[str, Any]
    weights: bytes
    attempt: str


class Checkpoint:
    """A folder that belongs to one fit.

    Parameters
    ----------
    spark : SparkSession
    path : str
        On any filesystem that Hadoop knows.
    identity : dict
        What decides the members, except the rows: plain values for JSON.

    Raises
    ------
    ValueError
        The folder holds members of another fit, or Spark would read its path as a pattern.
    """

    def __init__(self, spark: SparkSession, path: str, identity: dict[str, Any]) -> None:
        refuse_pattern(path, "checkpointDir")
        self._spark = spark
        self._path = path.rstrip("/")
        self._attempt = f"a-{uuid.uuid4().hex}"
        files, identity_file = engine_of(spark).files, f"{self._path}/_fit.json"
        identity = json.loads(json.dumps({"formatVersion": FORMAT_VERSION, **identity}))
        if not files.exists(identity_file) and files.write_new(
            identity_file, json.dumps(identity, indent=1, sort_keys=True)
        ):
            return
        try:
            found = json.loads(files.read(identity_file))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"checkpointDir '{path}' has a damaged _fit.json; delete the folder, or set another.")
        differing = [name for name in sorted({*found, *identity}) if found.get(name) != identity.get(name)]
        if differing:
            what = "; ".join(
                f"{name} is {_short(found.get(name))} there, {_short(identity.get(name))} here" for name in differing
            )
            raise ValueError(
                f"checkpointDir '{path}' holds members of another fit ({what}); give another folder, or delete it."
            )

    def finished(self) -> dict[int, Finished]:
        """The finished members in the folder."""
        if not engine_of(self._spark).files.matches(f"{self._path}/attempt=*"):
            return {}
        found: dict[int, Finished] = {}
        parts = self._parts()
        reported = parts.where(F.col("report").isNotNull()).select("attempt", "member", "report").collect()
        by_attempt: dict[str, dict[int, dict[str, Any]]] = {}
        for row in reported:
            report = _report(row["report"])
            if report is not None:
                by_attempt.setdefault(row["attempt"], {})[row["member"]] = report
        for attempt in sorted(by_attempt):
            reports = {
                member: report
                for member, report in sorted(by_attempt[attempt].items())
                if member not in found and "failure" not in report
            }
            weights = collect_weights(
                parts.where(F.col("attempt") == attempt), {member: report["size"] for member, report in reports.items()}
            )
            for member, report in reports.items():
                if digest(weights[member]) == report["sha256"]:
                    found[member] = Finished(report, weights[member], attempt)
        return found

    def check_rows(self, finished: dict[int, Finished], bagged: DataFrame) -> None:
        """Refuse rows that differ from those that the finished members were trained on; runs a job over the rows' keys.

        Raises
        ------
        ValueError
            Names a member whose bag would differ.
        """

        def residue(key: str) -> Any:
            return F.pmod(F.col(key), F.lit(FINGERPRINT_MODULUS))

        sums = bagged.groupBy("member").agg(
            F.count(F.lit(1)), F.sum(residue("row_key") * (F.col("copies") + 1)), F.sum(residue("content_key"))
        )
        now = {row[0]: list(row[1:]) for row in sums.collect()}
        for member, kept in sorted(finished.items()):
            if list(kept.report["fingerprint"]) != now.get(member):
                raise ValueError(
                    f"checkpointDir '{self._path}' holds members of another fit (member {member} was trained on "
                    f"{kept.report['fingerprint'][0]} rows that are not the {now.get(member, [0])[0]} of its bag now); "
                    "give the same rows, or another folder."
                )

    def write(self, trained: DataFrame) -> None:
        """Train, and write each member as soon as its task ends."""
        # Version 2 of Hadoop's committer moves a task's file into place when the task ends, version 1 with the job.
        writer = trained.write.option("mapreduce.fileoutputcommitter.algorithm.version", "2")
        writer.options(**SMALL_ROW_GROUPS).parquet(f"{self._path}/attempt={self._attempt}")

    def trained(self) -> DataFrame:
        """The rows that this attempt wrote."""
        return self._parts().where(F.col("attempt") == self._attempt)

    def of(self, finished: dict[int, Finished]) -> DataFrame:
        """The rows of finished members in the folder."""
        attempts = {kept.attempt for kept in finished.values()}
        mine = F.lit(False)
        for attempt in sorted(attempts):
            members = [member for member, kept in finished.items() if kept.attempt == attempt]
            mine = mine | ((F.col("attempt") == attempt) & F.col("member").isin(members))
        return self._parts().where(mine)

    def _parts(self) -> DataFrame:
        # A file that was cut short is skipped; its member is then not finished.
        reader = self._spark.read.schema(f"{TRAINED_SCHEMA}, attempt string").option("ignoreCorruptFiles", "true")
        return reader.parquet(self._path)


def _report(text: str) -> dict[str, Any] | None:
    """A member's report; None if it is damaged."""
    try:
        report = json.loads(text)
    except ValueError:
        return None
    return report if isinstance(report, dict) and set(report) >= REPORTED else None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
