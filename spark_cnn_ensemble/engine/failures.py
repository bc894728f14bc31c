"""One sentence for an error of Spark's, Hadoop's or the JVM's that a user can cause and fix.

`_RULES` is the table of kinds: a pattern in the error's text, and the sentence. Text alone is read, as the errors come
from several libraries and, through Spark, from executors. `errors` has the short reason for what is not in the table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyspark

from spark_cnn_ensemble.checked import shortened
from spark_cnn_ensemble.engine.errors import reason

Sentence = str | Callable[[re.Match[str]], str]


def from_spark(error: BaseException) -> bool:
    """Whether an error comes from Spark, from the JVM, or from the connection to it."""
    module = type(error).__module__.partition(".")[0]  # a client for Connect has no py4j, whose classes these may be
    return module in ("pyspark", "py4j") or isinstance(error, ConnectionError | EOFError)


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """Turn an error of Spark's or the JVM's into an OSError with one sentence."""
    try:
        yield
    except Exception as error:
        if not from_spark(error):
            raise
        raise OSError(failure(error)) from None


def failure(error: BaseException, log: str = "") -> str:
    """The sentence for an error for which `from_spark` is true.

    Parameters
    ----------
    error : Exception
    log : str
        What the JVM printed, where it ended before it could answer.

    Returns
    -------
    str
        One line: what failed, and where it is known, the remedy.
    """
    try:
        text = f"{type(error).__name__}: {error}\n{log}"
    except Exception:  # the text of a Java error is asked of the JVM, which may have ended
        text = f"Py4JNetworkError\n{log}"
    for pattern, sentence in _RULES:
        match = pattern.search(text)
        if match:
            return " ".join((sentence if isinstance(sentence, str) else sentence(match)).split())
    return f"Spark failed: {_innermost(text) or reason(error)}."  # type: ignore[arg-type]


def _innermost(text: str) -> str | None:
    """The message of the last error in a Python worker's traceback, or of the last cause in a Java trace."""
    worker = re.findall(
        r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)+(?:\w+\.)*(\w+: .+)$", text, re.MULTILINE
    )
    if worker:
        return shortened(worker[-1], 300).rstrip(".")
    causes = re.findall(r"^Caused by: (?:[\w.$]+: )?(.+)$", text, re.MULTILINE)
    if not causes:
        causes = re.findall(r"^: (?:[\w.$]+: )?(.+)$", text, re.MULTILINE)[:1]
    if not causes:
        return None
    message = re.sub(r"^\[[A-Z_.]+\] |\.?\s*SQLSTATE: \w+.*$", "", causes[-1])
    return shortened(_CLASS.sub(r"\1", message), 300).rstrip(".")


_CLASS = re.compile(r"\b(?:[a-z][\w$]*\.){2,}([A-Z]\w*)")

# Hadoop's filesystems that Spark does not bring: name in the class -> scheme, artifact with the class.
_FILESYSTEMS = {"S3AFileSystem": ("s3a", "hadoop-aws"), "AzureBlob": ("abfs", "hadoop-azure")}


def _no_filesystem_class(match: re.Match[str]) -> str:
    name = match[1].rpartition(".")[2]
    for part, (scheme, artifact) in _FILESYSTEMS.items():
        if part in name:
            return (
                f"Spark has no jar for {scheme}:// paths; set spark.jars.packages (spark-submit --packages) to "
                f"org.apache.hadoop:{artifact}:{_hadoop_version()} before Spark starts."
            )
    return f"Spark has no jar with the class {name}; add it to spark.jars (spark-submit --jars) before Spark starts."


def _hadoop_version() -> str:
    """The version of Spark's own Hadoop, which an additional jar must have."""
    home = os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent
    found = sorted(Path(home, "jars").glob("hadoop-client-api-*.jar"))
    return found[0].stem.removeprefix("hadoop-client-api-") if found else "VERSION"


def _place(path: str) -> str:
    """A path from a message without the scheme of the local disk."""
    return re.sub(r"^file:/+", "/", path).rstrip(".,;")


_MEMORY = (
    "make the pictures smaller, let fewer tasks run at once (local[1] as the master, or a larger spark.task.cpus), or "
    "give Spark more memory"
)

_RULES: list[tuple[re.Pattern[str], Sentence]] = [
    (re.compile(pattern, re.MULTILINE), sentence)
    for pattern, sentence in (
        # ---- filesystems
        (r"ClassNotFoundException: Class (\S*(?:FileSystem|\.fs\.)\S*) not found", _no_filesystem_class),
        (
            r"No FileSystem for scheme[: ]+\"?(\w[\w+.-]*)",
            lambda m: (
                f"Spark has no filesystem for {m[1]}:// paths; check the path, or add the jar of that filesystem to "
                "spark.jars (spark-submit --jars) before Spark starts."
            ),
        ),
        (
            r"UnknownHostException: ([\w.-]+)",
            lambda m: f"The host {m[1]} is not known; check the path or the master URL.",
        ),
        (
            r"Call From \S+ to (\S+) failed on connection exception",
            lambda m: f"Nothing answers at {m[1]}; check the path, or start the service.",
        ),
        (
            r"No AWS Credentials|NoAuthWithAWSException|Unable to load (?:AWS )?credentials",
            "There are no credentials for S3; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of "
            "spark.hadoop.fs.s3a.",
        ),
        (
            r"No space left on device",
            "No space is left on a disk that Spark writes to; free some, or set spark.local.dir (temporary files) or "
            "the output to a larger disk.",
        ),
        (r"Mkdirs failed to create (\S+)", lambda m: _unwritable(m[1])),
        (r"Parent path is not a directory: (\S+)", lambda m: _unwritable(m[1])),
        (r"mkdir of (\S+) failed", lambda m: _unwritable(m[1])),
        (r"Destination exists and is not a directory: (\S+)", lambda m: _unwritable(m[1])),
        (
            r"(?:FileNotFoundException|AccessDeniedException|IOException): (\S+)(?: \(| -> ).*"
            r"(?:Permission denied|Read-only file system|Operation not permitted|Not a directory)",
            lambda m: f"{_place(m[1])} cannot be opened; check its permissions, or choose another path.",
        ),
        (
            r"AccessControlException: (?:Permission denied: )?(.*)|AccessDeniedException: (\S+)",
            lambda m: f"Access is denied ({m[1] or m[2]}); check the permissions, or choose another path.",
        ),
        # ---- what is read
        (
            r"PATH_NOT_FOUND\] Path does not exist: (.+?)\.(?: SQLSTATE|$)",
            lambda m: f"Nothing is at {_place(m[1])}; check the path.",
        ),
        (
            r"(?:Could not read footer for file: |while reading file |RuntimeException: )(?:FileStatus\{path=)?"
            r"([^\s;]+)[\s\S]{0,2000}?is not a Parquet file",
            lambda m: f"{_place(m[1])} is not a Parquet file; check the path and the format.",
        ),
        (
            r"CANNOT_READ_FILE_FOOTER\] Could not read footer for file: (\S+?)\.? ",
            lambda m: f"{_place(m[1])} is not a Parquet file, or is damaged; check the path and the format.",
        ),
        (
            r"UNABLE_TO_INFER_SCHEMA\] Unable to infer schema for (\w+)",
            lambda m: f"The input has no {m[1]} files; check the path and the format.",
        ),
        (
            r"(?:FAILED_READ_FILE[.\w]*\] Encountered error while reading file|Checksum error:) (\S+?)\.? ",
            lambda m: (
                f"{_place(m[1])} cannot be read; it may be damaged, of another format, or deleted in the meantime."
            ),
        ),
        (
            r"IllegalArgumentException: (?:\[\w+\] )?(\S+) does not exist\. Available: (.*)",
            lambda m: f"The input has no column '{m[1]}'; it has {shortened(m[2], 200)}.",
        ),
        (
            r"UNRESOLVED_COLUMN[.\w]*\] A column[\s\w,]+ `(.+?)` cannot be resolved",
            lambda m: f"The input has no column '{m[1]}'; check the name, or pass another input.",
        ),
        (
            r"Unseen label: (.*?)\. +To handle unseen",
            lambda m: (
                f"The rows have the label '{m[1]}', which the model was not trained on; remove these rows, or set "
                "handleInvalid='skip' on the StringIndexer."
            ),
        ),
        (
            r"NumberFormatException: For input string: \"(.*?)\"",
            lambda m: f"The input has '{shortened(m[1])}' where a number was expected; check the path and the format.",
        ),
        (
            r"TABLE_OR_VIEW_NOT_FOUND\] The table or view `(.+?)`",
            lambda m: f"There is no table or view {m[1]}; check the name.",
        ),
        # ---- Spark Connect
        (
            r"PACKAGE_NOT_INSTALLED\] (grpc\S*|googleapis\S*|zstandard|protobuf)",
            lambda m: (
                f"Spark Connect needs the package {m[1]}, which is not installed; pip install "
                "'spark-cnn-ensemble[connect]' brings all that it needs."
            ),
        ),
        (
            r"UNAUTHENTICATED|authentication token",
            "The Spark Connect server refuses the token; check token= in the URL.",
        ),
        (
            r"INVALID_HANDLE\.SESSION_|NO_ACTIVE_(?:OR_DEFAULT_)?SESSION|CONNECT_URL_NOT_SET",
            "The Spark Connect session has ended: the server was restarted, or the session expired; call spark.stop(), "
            "get a new session by SparkSession.builder.remote(URL).getOrCreate(), and read the rows again.",
        ),
        # ---- the session and its processes
        (
            r"Master must either be|Could not parse Master URL|Invalid master URL|Invalid Spark URL",
            "The master URL is not valid; give local[N], spark://HOST:PORT, yarn or k8s://HOST:PORT.",
        ),
        (
            r"All masters are unresponsive|Application has been killed|Cannot call methods on a stopped SparkContext"
            r"|SparkContext was shut down|SparkContext has been shutdown",
            "Spark has stopped: no master answered, or the application was killed; check the master URL, and its logs.",
        ),
        (
            r"Service '(\w+)' failed after|Address already in use",
            lambda m: (
                f"A port that Spark needs is in use{f' (service {m[1]})' if m[1] else ''}; end the program that uses "
                "it, or set spark.driver.port and spark.ui.port to others."
            ),
        ),
        (
            r"bin/java: No such file|JAVA_HOME is not set|java: (?:command )?not found|Unable to locate a Java",
            "Spark found no Java; install Java 17 or later, and set JAVA_HOME to its folder.",
        ),
        (r"UnsupportedClassVersionError", "Java is too old for Spark; set JAVA_HOME to Java 17 or later."),
        (
            r"OutOfMemoryError|\bMemoryError\b|std::bad_alloc|ResourceExhaustedError|OOM when allocating",
            f"Memory ran out; {_MEMORY} (spark.driver.memory, spark.executor.memory).",
        ),
        (
            r"Python worker exited unexpectedly|Python worker .*crashed|ExecutorLostFailure|PYTHON_WORKER_EXITED"
            r"|Container killed|EOFException[\s\S]*PythonRunner",
            f"A process of Spark's was killed or crashed, mostly because memory ran out; {_MEMORY}.",
        ),
        (
            r"cancelled because SparkContext|part of cancelled job|has been cancelled|job was cancelled",
            "The job was cancelled before it was done; run the command again.",
        ),
        (
            r"Py4JNetworkError|Answer from Java side is empty|ConnectionRefusedError|ConnectionResetError|EOFError",
            "Spark's JVM has ended, perhaps because memory ran out; raise spark.driver.memory and start again.",
        ),
        (
            r"JAVA_GATEWAY_EXITED",
            "Spark's JVM did not start; check JAVA_HOME and SPARK_HOME, and run the command with --debug to see why.",
        ),
    )
]


def _unwritable(path: str) -> str:
    return f"The folder {_place(path)} cannot be made; check the path and its permissions, or choose another."
