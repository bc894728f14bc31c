"""What pyarrow cannot open is read by Spark, with the rows, ids and messages that pyarrow would give."""

import pytest
from pyspark.errors import PySparkException
from support.classifiers import small
from support.text_matrices import PACK, read_here, rows_here, rows_of, write_file, write_malformed, write_packed

from spark_cnn_ensemble.text import through_spark
from spark_cnn_ensemble.text.reader import read_text_matrix

pytestmark = pytest.mark.filterwarnings("ignore:Spark reads viewfs")


@pytest.fixture
def viewfs(spark, tmp_path):
    """A URI of the folder `tmp_path` that only Hadoop knows."""
    spark.conf.set(f"fs.viewfs.mounttable.{tmp_path.name}.link./data", tmp_path.as_uri())
    return f"viewfs://{tmp_path.name}/data"


@pytest.fixture(params=["whole files", "by line"])
def way(request, monkeypatch, spark):
    """How Spark reads files; it would divide them, if it could."""
    if request.param == "by line":
        monkeypatch.setattr(through_spark, "WHOLE_BYTES", 0)
    settings = {"spark.sql.files.maxPartitionBytes": "2000", "spark.sql.files.openCostInBytes": "100"}
    for name, value in settings.items():
        spark.conf.set(name, value)
    yield request.param
    for name in settings:
        spark.conf.unset(name)


TEXTS = {
    "line feeds": "1 2 3\n4 5 6\n4 5 6\n",
    "no last line end": "1 2 3\n4 5 6",
    "carriage returns": "1 2 3\r\n4 5 6\r\n",
    "blank lines": "\n\n1 2 3\n   \n4 5 6\n\n",
    "many": "".join(f"{i} {i * i} {i % 10}\n" for i in range(2000)),
}


def test_rows_and_ids_are_those_of_the_other_way(spark, viewfs, tmp_path, way):
    for at, text in enumerate(TEXTS.values()):
        write_file(tmp_path, f"m/{at}.txt", text)
        write_file(tmp_path, f"m/sub é%20/{at}.csv", text)
        for end in PACK:
            write_packed(tmp_path, f"m/packed/{at}.{end}.{end}", text.encode())
    write_file(tmp_path, "m/_SUCCESS", "no")
    write_file(tmp_path, "m/empty.txt", "")
    rows = rows_of(read_text_matrix(spark, f"{viewfs}/m"))
    assert rows == rows_here(tmp_path / "m")
    assert len(rows) == 5 * (3 + 2 + 2 + 2 + 2000)
    assert rows_of(read_text_matrix(spark, f"{viewfs}/m/4.txt")) == rows_here(tmp_path / "m/4.txt")


def test_whole_numbers_are_read_as_bytes(spark, viewfs, tmp_path, way):
    write_file(tmp_path, "m/a.txt", TEXTS["line feeds"])
    frame = read_text_matrix(spark, f"{viewfs}/m", dtype="uint8")
    assert frame.dtypes[1] == ("features", "binary")
    assert rows_of(frame) == rows_here(tmp_path / "m")


def test_headers_and_marks_are_left_out(spark, viewfs, tmp_path, way):
    for name in ("1.csv", "2.csv"):
        write_file(tmp_path, name, "\ufeff\r\nlabel,a,b\r\n5,1,2\r\n6,3,4\r\n")
    frame = read_text_matrix(spark, viewfs, "first", ",", 2.0, header=True)
    ids, features, labels = read_here(tmp_path, "first", ",", 2.0, header=True)
    mark = 3 if way == "by line" else 0  # Spark does not show it
    assert {(row.id + mark, tuple(row.features), row.label) for row in frame.collect()} == set(
        zip(ids.tolist(), map(tuple, features.tolist()), labels.tolist(), strict=True)
    )


def test_a_thousand_small_files_are_read(spark, viewfs, tmp_path):
    for at in range(1000):
        write_file(tmp_path, f"{at % 7}/part-{at}", f"{at} 1 2\n1 2 3\n")
    assert rows_of(read_text_matrix(spark, viewfs)) == rows_here(tmp_path)


def test_a_malformed_line_is_named(spark, viewfs, tmp_path, way):
    write_malformed(tmp_path, "1 2 3 4.5")
    message = r"^sub/b\.txt, line 202: the label '4\.5' is not a whole number"
    with pytest.raises(ValueError, match=message):
        small(inputShape=[1, 3, 1]).fit(read_text_matrix(spark, viewfs))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", b"1,2\n", r"a\.txt, first row: one column.*set sep=','"),
        ("a.zip", b"1 2\n", r"a\.zip in .* is an archive"),
        ("a.txt", b" \n", "No row is in viewfs"),
        ("a.gz", b"1 2 3\n", r"^a\.gz is damaged or cut short"),
        ("a.txt", b"PAR1 2\n", r"a\.txt in .* is a Parquet file"),
    ],
)
def test_unusable_files_are_refused_as_by_the_other_way(spark, viewfs, tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ValueError, match=message):
        read_text_matrix(spark, viewfs)


def test_a_large_file_without_an_extension_is_refused(spark, viewfs, tmp_path, monkeypatch):
    monkeypatch.setattr(through_spark, "WHOLE_BYTES", 3)
    write_file(tmp_path, "part-0", "1 2\n")
    with pytest.raises(ValueError, match=r"part-0 in .* rename it to part-0\.txt, or divide it"):
        read_text_matrix(spark, viewfs)
    (tmp_path / "part-0").rename(tmp_path / "part-0.txt")
    assert read_text_matrix(spark, viewfs).count() == 1


def test_a_file_that_has_changed_is_refused(spark, viewfs, tmp_path):
    write_file(tmp_path, "a.txt", "1 2\n" * 10)
    frame = read_text_matrix(spark, viewfs)
    write_file(tmp_path, "a.txt", "1 2\n" * 20)
    with pytest.raises(PySparkException, match=r"Refusal: a\.txt has changed from 40 to 80 bytes"):
        frame.collect()


def test_sparks_default_filesystem_is_read_if_nothing_is_on_the_disk(spark, viewfs, tmp_path):
    write_file(tmp_path, "a.txt", "1 2\n")
    spark.conf.set("fs.defaultFS", viewfs.removesuffix("/data"))
    try:
        assert rows_of(read_text_matrix(spark, "/data/a.txt")) == rows_here(tmp_path / "a.txt")
    finally:
        spark.conf.unset("fs.defaultFS")


def test_a_place_with_nothing_is_refused(spark, viewfs):
    with pytest.raises(FileNotFoundError, match=r"Nothing is at viewfs.*/nowhere; give the path"):
        read_text_matrix(spark, f"{viewfs}/nowhere")


def test_the_reason_for_reading_by_spark_is_shown(spark, viewfs, tmp_path):
    write_file(tmp_path, "a.txt", "1 2\n")
    with pytest.warns(UserWarning, match=r"Spark reads viewfs.*as pyarrow cannot open it \(.*lib.*\)"):
        read_text_matrix(spark, viewfs)
