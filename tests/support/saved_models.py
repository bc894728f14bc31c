"""Saved models that are changed by hand."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from spark_cnn_ensemble.worker.weights import digest
from support.refusals import refused

MEMBERS_SCHEMA = pa.schema([("member", pa.int32()), ("part", pa.int32()), ("bytes", pa.binary())])
PART_SIZE = 4 << 20  # bytes


def only(folder, pattern):
    """The only file of a folder with such a name."""
    (file,) = folder.glob(pattern)
    return file


def metadata_file(folder):
    return only(folder / "metadata", "part-*")


def without_checksum(file):
    """A file after its checksum, which Hadoop would compare, is deleted."""
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    return file


def write_metadata(folder, text):
    without_checksum(metadata_file(folder)).write_text(text)


def edit_metadata(folder, edit):
    """Replace the metadata, a dict, by what `edit` makes of it in place."""
    metadata = json.loads(metadata_file(folder).read_text())
    edit(metadata)
    write_metadata(folder, json.dumps(metadata))


def set_value(*path, to):
    """An edit that sets the value at `path`."""

    def edit(metadata):
        for key in path[:-1]:
            metadata = metadata[key]
        metadata[path[-1]] = to

    return edit


def members_of(folder):
    """The only folder of members of a saved model."""
    (members,) = (folder / "members").iterdir()
    return members


def member_rows(folder):
    """The rows (member, part, bytes) of a saved model."""
    return pq.read_table(members_of(folder)).to_pylist()


def write_member_rows(folder, rows, schema=MEMBERS_SCHEMA):
    """Replace the rows (member, part, bytes) of a saved model."""
    members = members_of(folder)
    shutil.rmtree(members)
    members.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema), members / "part-00000.parquet")


def replace_weights(folder, data):
    """Replace the packed weights of member 0, with the size and SHA-256 of the new ones."""
    others = [row for row in member_rows(folder) if row["member"] != 0]
    parts = [data[start : start + PART_SIZE] for start in range(0, len(data), PART_SIZE)]
    rows = [{"member": 0, "part": number, "bytes": part} for number, part in enumerate(parts)]
    write_member_rows(folder, [*others, *rows])
    edit_metadata(
        folder, lambda metadata: metadata["ensemble"]["members"][0].update(size=len(data), sha256=digest(data))
    )


def load_refused(folder, kind=ValueError, cls=CNNEnsembleClassificationModel):
    """The sentence with which `cls.load` is refused; it names the folder."""
    text = refused(cls.load, str(folder), kind=kind)
    assert str(folder) in text
    assert len(text) < 1000, "too long to read"
    return text


def load_damaged(folder):
    """The sentence with which a damaged model is refused."""
    text = load_refused(folder)
    assert text.endswith("; copy or save the model again."), text
    return text
