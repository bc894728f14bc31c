"""Pictures in one folder per class, as Spark reads files: which folders are classes, and which only look so.

Called by the command line.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine import engine_of

CLASS_NAME_COL = "className"

# Names of folders that divide the pictures rather than name a class.
_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "holdout", "dev"}
_PICTURES = "[pP][nN][gG],[jJ][pP][gG],[jJ][pP][eE][gG]"  # their extensions, as a pattern
_DEEPEST = 6  # folders above a picture in which hidden names are looked for
_MOST_NAMED = 10  # folders or classes in a message

# Spark's conf for what opening a file costs. By its default, a task is at most 32 files, however small.
_OPEN_COST, _DEFAULT_OPEN_COST, _SMALL_OPEN_COST = "spark.sql.files.openCostInBytes", "4194304b", "64k"


def read_pictures(spark: SparkSession, path: str) -> DataFrame:
    """The files at and below a path.

    Returns
    -------
    DataFrame
        Columns path, features (bytes) and className, the name of the file's folder. Spark leaves files and folders out
        whose names begin with _ or a dot. The session then puts up to 2,000 small files into a task, unless its user
        has set spark.sql.files.openCostInBytes.
    """
    if spark.conf.get(_OPEN_COST) == _DEFAULT_OPEN_COST:
        spark.conf.set(_OPEN_COST, _SMALL_OPEN_COST)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path)
    # Spark gives the path as it is on disk: decoding it, as a URL is decoded, would change a name such as c++.
    folder = F.element_at(F.split("path", "/"), -2)
    return files.select("path", F.col("content").alias("features"), folder.alias(CLASS_NAME_COL))


def count_by_folder(pictures: DataFrame) -> dict[str, int]:
    """The number of files in each folder; runs a job that lists the files and opens none."""
    folder = F.regexp_replace("path", "/[^/]*$", "")
    rows = pictures.select(folder.alias("folder")).groupBy("folder").count().collect()
    return {row[0].removeprefix("file:"): row[1] for row in sorted(rows)}


def class_names(folders: Iterable[str]) -> list[str]:
    """The names of the classes, sorted; a class's index is its place."""
    return sorted({_name(folder) for folder in folders})


def check_folders(path: str, folders: Iterable[str]) -> None:
    """Refuse folders that do not show what the classes are, or that mix training and test pictures.

    Parameters
    ----------
    path : str
        What the user named.
    folders : iterable of str
        The folders with files.

    Raises
    ------
    ValueError
    """
    folders = list(folders)
    if not folders:
        raise ValueError(f"There are no files in {path}; pass a folder with one sub-folder of pictures per class.")
    parts = _parts(folders)
    if len(parts) > 1:
        first, second = parts[:2]
        remedy = f"pass --input {first} to train, and {second} to evaluate"
        if set(parts) <= set(folders) and len({_parent(folder) for folder in folders}) > 1:
            remedy = "make folders of these names that have one folder per class, such as train/cat and test/cat"
        raise ValueError(
            f"{path} has the folders {_listed([_name(part) for part in parts])}, which are parts of the data rather "
            f"than classes; {remedy}."
        )
    for folder in folders:
        above = next((other for other in folders if folder.startswith(f"{other}/")), None)
        if above is not None:
            raise ValueError(
                f"There are pictures both in {above} and in {folder} below it, so that their class is not clear; put "
                "the pictures of each class into one folder."
            )


def check_classes(path: str, folders: Iterable[str]) -> None:
    """Refuse pictures of fewer than two classes.

    Raises
    ------
    ValueError
    """
    folders = list(folders)
    if len(class_names(folders)) < 2:
        raise ValueError(
            f"All pictures in {path} are in one folder, {folders[0]}, so that there is only one class; put the "
            "pictures of each class into a sub-folder of their own, such as cat/1.png and dog/2.png."
        )


def check_hidden(spark: SparkSession, path: str) -> None:
    """Refuse folders and pictures that Spark would leave out because their names begin with _, as some cameras' do.

    Raises
    ------
    ValueError
    """
    files = engine_of(spark).files
    for depth in range(_DEEPEST):
        place = "*/" * depth
        for pattern, kind in ((f"{place}_*/*", "folder"), (f"{place}_*.{{{_PICTURES}}}", "picture")):
            if found := files.matches(f"{path.rstrip('/')}/{pattern}"):
                raise ValueError(
                    f"{path} has a {kind} whose name begins with _, which Spark leaves out ({found[0].path}); rename "
                    f"the {kind}, or move it to another place."
                )


def check_known(found: Iterable[str], known: Iterable[str], where: str) -> None:
    """Refuse names of classes that a model does not know.

    Parameters
    ----------
    found, known : iterable of str
        The names in the rows, and those of the model.
    where : str
        What has the names, such as "column 'species'".

    Raises
    ------
    ValueError
    """
    known = list(known)
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise ValueError(
            f"The model has no class {_listed(unknown, 'or')}, which {where} has; its classes are {_listed(known)}: "
            "rename or remove what is unknown, or pass --handle-invalid skip to leave it out."
        )


def _parts(folders: list[str]) -> list[str]:
    """One folder of each name that divides the pictures, that for training first; names are compared without case."""
    paths = [folder.split("/") for folder in folders]
    levels = list(zip(*paths, strict=False))
    shared = next((depth for depth, names in enumerate(levels) if len(set(names)) > 1), len(levels))
    parts: dict[str, str] = {}
    for path in paths:
        for depth in range(shared, len(path) - 1):
            if path[depth].lower() in _PARTS:
                parts.setdefault(path[depth].lower(), "/".join(path[: depth + 1]))
    lowest = {_name(folder).lower(): folder for folder in folders}
    # A class may be called train, as one of car, boat and train.
    if parts or lowest.keys() <= _PARTS:
        parts = {name: folder for name, folder in lowest.items() if name in _PARTS} | parts
    return [parts[name] for name in sorted(parts, key=lambda name: (not name.startswith("train"), name))]


def _name(folder: str) -> str:
    return folder.rpartition("/")[2]


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def _listed(names: list[str], last: str = "and") -> str:
    shown = [f"'{name}'" for name in names[:_MOST_NAMED]]
    if len(names) > _MOST_NAMED:
        shown.append(f"{len(names) - _MOST_NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"
