"""Saved models that are changed by hand."""

import json

from spark_cnn_ensemble import CNNEnsembleClassificationModel
from support.refusals import refused


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def without_checksum(file):
    file.with_name(f".{file.name}.crc").unlink()
    return file


def edit_metadata(folder, change):
    file = without_checksum(only(folder / "metadata", "part-*"))
    file.write_text(change(file.read_text()))


def edit_json(folder, change):
    def edit(text):
        metadata = json.loads(text)
        change(metadata)
        return json.dumps(metadata)

    edit_metadata(folder, edit)


def load_refused(folder, kind=ValueError, cls=CNNEnsembleClassificationModel):
    text = refused(cls.load, str(folder), kind=kind)
    assert str(folder) in text
    return text
