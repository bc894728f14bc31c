"""Pictures in class folders: any name of a folder is a class, and what is not clear is refused."""

import numpy as np
import pytest
from PIL import Image

from spark_cnn_ensemble.class_folders import (
    check_classes,
    check_folders,
    check_known,
    class_names,
    count_by_folder,
    read_pictures,
)

# Names that a decoded URL or a pattern would change, and others that people use.
NAMES = [
    "100% cotton",
    "c++",
    "%41",
    "a%2Fb",
    "a#b",
    "a?b",
    "a b",
    "café",
    "日本",
    "[x]",
    "{x,y}",
    "a*b",
    "a\\b",
    "a:b",
]
NAMES += ['"quoted"', "a&b;c", "k=v", "$1", "tab\tname", "'", "😀", "-", "a..b"]


def save_picture(folder, name="1.png", shade=0):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), shade, np.uint8)).save(folder / name)


def test_the_name_of_a_folder_is_that_of_its_class(spark, tmp_path):
    for name in NAMES:
        save_picture(tmp_path / "photos" / name)
    rows = read_pictures(spark, str(tmp_path / "photos")).collect()
    assert sorted(row.className for row in rows) == sorted(NAMES)
    assert {row.path.split("/")[-2] for row in rows} == set(NAMES)


def test_files_are_counted_by_folder(spark, tmp_path):
    for name, files in (("cat", 2), ("c++", 3)):
        for index in range(files):
            save_picture(tmp_path / name, f"{index}.png")
    counts = count_by_folder(read_pictures(spark, str(tmp_path)))
    assert counts == {f"{tmp_path}/c++": 3, f"{tmp_path}/cat": 2}
    assert class_names(counts) == ["c++", "cat"]


@pytest.mark.parametrize(("cost", "partitions"), [(None, 2), ("2m", 13)])
def test_many_small_files_share_a_task_unless_the_user_sets_their_cost(spark, tmp_path, cost, partitions):
    for index in range(800):
        save_picture(tmp_path / str(index % 2), f"{index}.png")
    if cost:
        spark.conf.set("spark.sql.files.openCostInBytes", cost)
    try:
        frame = read_pictures(spark, str(tmp_path))
        assert frame.rdd.getNumPartitions() == partitions
        assert frame.select("features").distinct().count() == 1
    finally:
        spark.conf.unset("spark.sql.files.openCostInBytes")


CLEAR = {
    "classes": ["/x/cat", "/x/dog"],
    "classes in groups": ["/x/animals/cat", "/x/plants/rose"],
    "one class in two places": ["/x/2023/cat", "/x/2024/cat", "/x/2024/dog"],
    "a part": ["/x/train/cat", "/x/train/dog"],
    "a class named train": ["/x/train", "/x/car", "/x/bus"],
    "one name begins another": ["/x/cat", "/x/cats"],
}


@pytest.mark.parametrize("case", CLEAR)
def test_clear_folders_are_accepted(case):
    check_folders("/x", CLEAR[case])


UNCLEAR = {
    "train and test": (["/x/test/cat", "/x/train/cat"], "--input /x/train to train, and /x/test to evaluate"),
    "three parts": (["/x/test/a", "/x/train/a", "/x/val/a"], "folders 'train', 'test' and 'val', which are parts"),
    "parts that are flat": (["/x/training", "/x/validation"], "--input /x/training to train, and /x/validation to"),
    "capital letters": (["/x/Testing/a", "/x/Training/a"], "--input /x/Training to train, and /x/Testing to evaluate"),
    "parts two folders above": (["/x/test/pets/cat", "/x/train/pets/cat"], "--input /x/train to train, and /x/test to"),
    "one part is flat": (["/x/test", "/x/train/cat", "/x/train/dog"], "--input /x/train to train, and /x/test to"),
    "parts below the classes": (
        ["/x/cat/test", "/x/cat/train", "/x/dog/test", "/x/dog/train"],
        r"the folders 'train' and 'test', .*; make folders of these names that have one folder per class",
    ),
    "parts and more": (["/x/train/a", "/x/test/a", "/x/other/a"], "the folders 'train' and 'test', which are parts"),
    "pictures above classes": (["/x", "/x/cat"], "pictures both in /x and in /x/cat below it"),
    "pictures below a class": (["/x/cat", "/x/cat/old", "/x/dog"], "pictures both in /x/cat and in /x/cat/old below"),
    "none": ([], "There are no files in /x; pass a folder with one sub-folder of pictures per class."),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_unclear_folders_are_refused(case):
    folders, message = UNCLEAR[case]
    with pytest.raises(ValueError, match=message):
        check_folders("/x", folders)


@pytest.mark.parametrize(
    "folders",
    [
        ["/test/cat", "/test/dog"],
        ["/x/boat", "/x/car", "/x/train"],
        ["/train/car", "/train/train"],
        ["/x/1/cat", "/x/2/dog"],
    ],
    ids=str,
)
def test_folders_of_classes_are_taken(folders):
    check_folders("/x", folders)


@pytest.mark.parametrize("folders", [["/x"], ["/x/cat"], ["/x/1/cat", "/x/2/cat"]], ids=str)
def test_one_class_is_refused(folders):
    with pytest.raises(
        ValueError, match=r"All pictures in /x are in one folder, .* such as cat/1.png and dog/2.png\.$"
    ):
        check_classes("/x", folders)


def test_unknown_classes_are_named():
    check_known(["cat"], ["cat", "dog"], "--input")
    with pytest.raises(ValueError) as refused:
        check_known(["fish", "cat", "bird"], ["cat", "dog"], "--input")
    assert str(refused.value) == (
        "The model has no class 'bird' or 'fish', which --input has; its classes are 'cat' and 'dog': rename or remove "
        "what is unknown, or pass --handle-invalid skip to leave it out."
    )


def test_many_unknown_classes_are_a_short_sentence():
    with pytest.raises(ValueError, match="'c17' or 90 more, which") as refused:
        check_known([f"c{index}" for index in range(100)], [f"k{index}" for index in range(1000)], "--input")
    assert len(str(refused.value)) < 500
