"""Keras files that are not plain arrays are refused in a sentence, read nothing else and take no memory."""

import io
import struct
import zipfile

import h5py
import numpy as np
import pytest
from support.memory import memory_grows_less_than
from support.refusals import refused

from spark_cnn_ensemble.keras_files import WEIGHTS, stored_layers

HUGE = (1 << 40,)


def weights_file(change=None, **options):
    """The bytes of a file with one layer, changed by `change(file, arrays of the layer)`."""
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as stored:
        arrays = stored.create_group("layers/dense/vars")
        arrays.attrs["name"] = "dense"
        arrays["0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
        arrays["1"] = np.zeros(3, np.float32)
        if change is not None:
            change(stored, arrays)
    return file.getvalue()


def zipped(*entries, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def keras_file(data, **options):
    return zipped(("metadata.json", "{}"), ("config.json", "{}"), (WEIGHTS, data), **options)


def claiming(archive, size):
    """The archive with another size of its last file in its directory."""
    at = archive.rindex(b"PK\1\2") + 24
    return archive[:at] + struct.pack("<I", size) + archive[at + 4 :]


def test_the_file_that_the_others_are_changed_from_is_read():
    for layers in (stored_layers(weights_file(), zipped=False), stored_layers(keras_file(weights_file()), zipped=True)):
        [(path, name, (kernel, bias))] = layers
        assert (path, name, kernel.tolist(), bias.shape) == ("layers/dense", "dense", [[0, 1, 2], [3, 4, 5]], (3,))


def replaced(name, make):
    """A change that puts something else in place of an array."""

    def change(file, arrays):
        del arrays[name]
        make(file, arrays)

    return change


def external_link(file, arrays):
    arrays["0"] = h5py.ExternalLink("/etc/passwd", "/")


def link_to_a_group(file, arrays):
    file["layers/other"] = h5py.ExternalLink("/etc/passwd", "/layers")


def soft_link(file, arrays):
    arrays["0"] = h5py.SoftLink("/layers/dense/vars/1")


def external_bytes(file, arrays):
    arrays.create_dataset("0", (2, 3), "<f4", external=[("/etc/passwd", 0, 24)])


def virtual(file, arrays):
    layout = h5py.VirtualLayout((2, 3), "<f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (2, 3))
    arrays.create_virtual_dataset("0", layout)


def huge(file, arrays):
    space = h5py.h5s.create_simple(HUGE)
    h5py.h5d.create(arrays.id, b"0", h5py.h5t.IEEE_F32LE, space)  # no byte is stored


def compressed(file, arrays):
    arrays.create_dataset("0", (4096, 4096), "<f4", compression="gzip", data=np.zeros((4096, 4096), np.float32))


def huge_in_pieces(file, arrays):
    arrays.create_dataset("0", HUGE, "<f4", chunks=(1 << 20,))


def shared_bytes(file, arrays):
    arrays["0"] = np.zeros(1 << 18, np.float32)
    for index in range(2, 1000):
        arrays[str(index)] = arrays["0"]


def loop(file, arrays):
    file["layers/dense/again"] = file["layers"]


def array_for_a_group(file, arrays):
    file["layers/flat"] = np.zeros(3)


def group_for_an_array(file, arrays):
    arrays.create_group("0")


def typed(dtype, data):
    return replaced("0", lambda file, arrays: arrays.create_dataset("0", data=data, dtype=dtype))


CHANGES = {
    "an array in another file, by a link": (replaced("0", external_link), "link to another place"),
    "a layer in another file, by a link": (link_to_a_group, "link to another place"),
    "a soft link": (replaced("0", soft_link), "link to another place"),
    "an array whose bytes are in another file": (replaced("0", external_bytes), "in another file"),
    "an array made from another file": (replaced("0", virtual), "in another file"),
    "a shape of 4 TB without bytes": (replaced("0", huge), "claims 4,398,046,511,104 bytes"),
    "a shape of 4 TB in pieces": (replaced("0", huge_in_pieces), "compressed or in pieces"),
    "64 MB in a few kilobytes": (replaced("0", compressed), "compressed or in pieces"),
    "a thousand names for the same bytes": (replaced("0", shared_bytes), "claim more bytes"),
    "a group inside itself": (loop, "loop"),
    "an array in place of a layer": (array_for_a_group, "is not a group"),
    "a group in place of an array": (replaced("0", group_for_an_array), "is not an array"),
    "an array without a number": (lambda file, arrays: arrays.create_dataset("kernel", data=[1.0]), "no number"),
    "text": (typed(h5py.string_dtype(), ["a", "b"]), "numbers of type object"),
    "complex numbers": (typed("c8", [1j]), "numbers of type complex64"),
    "records": (typed([("a", "f4")], [(1.0,)]), "numbers of type"),
    "the format of Keras 2": (lambda file, arrays: file.attrs.update(layer_names=["dense"]), "format of Keras 2"),
    "a whole model of Keras 2": (lambda file, arrays: file.create_group("model_weights"), "format of Keras 2"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_keras_does_not_write_is_refused(what):
    change, reason = CHANGES[what]
    data = weights_file(change)
    with memory_grows_less_than(32 << 20):
        for sentence in (refused(stored_layers, data, False), refused(stored_layers, keras_file(data), True)):
            assert reason in sentence and "save it with model.save" in sentence


SOUND = weights_file()


@pytest.mark.parametrize("size", [0, 1, 100, len(SOUND) // 2, len(SOUND) - 1])
def test_a_truncated_file_is_refused(size):
    assert "damaged" in refused(stored_layers, SOUND[:size], False)
    assert "damaged" in refused(stored_layers, keras_file(SOUND)[:size], True)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_wrong_bytes_is_refused_or_read_as_arrays(seed):
    rng = np.random.default_rng(seed)
    data = bytearray(SOUND)
    for place in rng.integers(0, len(data), 12):
        data[place] = rng.integers(256)
    try:
        with memory_grows_less_than(32 << 20):
            layers = stored_layers(bytes(data), False)
    except ValueError as error:
        assert "save it with model.save" in str(error)
    else:
        assert all(array.dtype == np.float32 for layer in layers for array in layer.arrays)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (zipped(("config.json", "{}")), f"no single {WEIGHTS}"),
        (zipped(("model.weights.npz", b"")), f"no single {WEIGHTS}"),
        (keras_file(bytes(1 << 26), compression=zipfile.ZIP_DEFLATED), "claims 67,108,864 bytes"),
        (claiming(keras_file(bytes(1 << 28), compression=zipfile.ZIP_BZIP2), 100), "compressed as Keras does not"),
        (claiming(keras_file(bytes(1 << 28), compression=zipfile.ZIP_DEFLATED), 100), "damaged"),
        (keras_file(b"PK"), "damaged"),
        (SOUND, "damaged"),
    ],
    ids=[
        "no weights",
        "weights of another kind",
        "a bomb",
        "a bomb of bz2",
        "a bomb that claims little",
        "no HDF5",
        "no zip",
    ],
)
def test_an_archive_that_keras_did_not_write_is_refused(data, reason):
    with memory_grows_less_than(32 << 20):
        assert reason in refused(stored_layers, data, True)


def test_a_config_of_code_is_not_read(tmp_path):
    code = '{"class_name": "Lambda", "config": {"function": "__import__(\'os\').mkdir(\'%s\')"}}' % (tmp_path / "ran")
    assert stored_layers(zipped(("config.json", code), (WEIGHTS, SOUND)), True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", [np.arange(10), np.bytes_(b"\xff\xfe"), 7, "x" * 50_000], ids=["list", "bytes", "int", "long"]
)
def test_any_name_of_a_layer_is_read_as_text(name):
    data = weights_file(lambda file, arrays: arrays.attrs.create("name", name))
    assert isinstance(stored_layers(data, False)[0].name, str)


def test_halves_and_doubles_are_read_as_float32():
    import ml_dtypes

    def change(file, arrays):
        arrays["2"], arrays["3"] = np.array([0.5], np.float16), np.array([0.25], np.float64)
        arrays.create_dataset("4", data=np.array([1.5], ml_dtypes.bfloat16)).attrs["dtype"] = "bfloat16"

    [layer] = stored_layers(weights_file(change), False)
    assert [array.tolist() for array in layer.arrays[2:]] == [[0.5], [0.25], [1.5]]
    assert {array.dtype for array in layer.arrays} == {np.dtype(np.float32)}
