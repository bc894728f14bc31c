"""The members with their vote -> one ONNX file or one SavedModel, for use without Spark and this library.

Called by the model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spark_cnn_ensemble import __version__
from spark_cnn_ensemble.engine.paths import path_text
from spark_cnn_ensemble.ensemble import Ensemble
from spark_cnn_ensemble.onnx_nodes import IR_VERSION, OPSET, GraphBuilder, import_onnx
from spark_cnn_ensemble.worker.blocks import misfit
from spark_cnn_ensemble.worker.onnx_graph import IMAGE, MOST_BYTES, PROBABILITY, TYPES
from spark_cnn_ensemble.worker.runtime import keras_settings
from spark_cnn_ensemble.worker.weights import unpack_weights

_PRODUCER = "spark_cnn_ensemble"
_METADATA = f"assets.extra/{_PRODUCER}.json"  # in a SavedModel, where TensorFlow has a place for such files
_DOUBLE, _BOOLEAN = 11, 9  # of ONNX


def export_ensemble(
    ensemble: Ensemble,
    path: str | os.PathLike[str],
    kind: str,
    soft: bool,
    thresholds: Sequence[float] | None,
    overwrite: bool,
) -> None:
    """Write the members with their vote to a path that then has all of it, or is as it was.

    Parameters
    ----------
    ensemble : Ensemble
    path : str or os.PathLike
        On a local disk.
    kind : str
        "onnx" or "tf_saved_model".
    soft : bool
        Whether the mean softmax decides rather than the majority.
    thresholds : sequence of float, optional
        One per class.
    overwrite : bool
        Whether an export of the same kind may be replaced.

    Raises
    ------
    FileExistsError
        The path exists and `overwrite` is False, or is not an export of this kind.
    ValueError
        The kind is unknown, or the path is not local.
    """
    writers: dict[str, Callable[..., None]] = {"onnx": _write_onnx, "tf_saved_model": _write_saved_model}
    if kind not in writers:
        raise ValueError(
            f"The 'format' of an export must be one of {', '.join(map(repr, writers))}. Got {kind!r} instead."
        )
    target = _local(path)
    _check_target(target, kind, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        writers[kind](unfinished, ensemble, soft, None if thresholds is None else np.array(thresholds))
        _check_target(target, kind, overwrite)  # something may have come since the first look
        _move(unfinished, target)
    finally:
        _remove(unfinished)


def _local(path: str | os.PathLike[str]) -> Path:
    text = path_text(path)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", text)
    if scheme:
        raise ValueError(
            f"An export goes to a disk of this machine, and '{text}' is a URI ({scheme[1]}); give a local path, such "
            "as '/tmp/ensemble', and copy the result."
        )
    return Path(os.path.realpath(text))  # an export is written where a link leads


def _check_target(target: Path, kind: str, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise FileExistsError(f"Path {target} exists already; choose another, or export with overwrite=True.")
    if not (_is_onnx_export(target) if kind == "onnx" else (target / _METADATA).is_file()):
        raise FileExistsError(
            f"Path {target} exists and is not an export with format={kind!r}, so it is not overwritten; choose another."
        )


def _is_onnx_export(path: Path) -> bool:
    if not path.is_file():
        return False
    # Protobuf writes the version of the format first, then the producer.
    start = rb"\x08.\x12" + re.escape(bytes([len(_PRODUCER)]) + _PRODUCER.encode())
    with path.open("rb") as file:
        return bool(re.match(start, file.read(64), re.DOTALL))


def _move(source: Path, target: Path) -> None:
    """Put a file or folder in the place of another."""
    if not target.is_dir():
        source.replace(target)
        return
    old = target.with_name(f"{source.name}.old")
    target.rename(old)
    try:
        source.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _metadata(ensemble: Ensemble, soft: bool, thresholds: np.ndarray | None) -> dict[str, Any]:
    return {
        "version": __version__,
        "inputShape": list(ensemble.input_shape),
        "inputForm": f"{IMAGE}: float32 (n, height, width, channels), pixels in the range of the training rows",
        "numClasses": ensemble.num_classes,
        "classNames": ensemble.class_names,
        "numMembers": len(ensemble),
        "votingStrategy": "soft" if soft else "hard",
        "thresholds": None if thresholds is None else thresholds.tolist(),
    }


@keras_settings()
def _write_saved_model(path: Path, ensemble: Ensemble, soft: bool, thresholds: np.ndarray | None) -> None:
    ensemble.to_keras(soft, thresholds).export(str(path), format="tf_saved_model", verbose=False)
    file = path / _METADATA
    file.parent.mkdir()
    file.write_text(json.dumps(_metadata(ensemble, soft, thresholds), indent=1))


def _write_onnx(path: Path, ensemble: Ensemble, soft: bool, thresholds: np.ndarray | None) -> None:
    size = sum(map(len, ensemble.weights))
    if size > MOST_BYTES:
        raise ValueError(
            f"The weights of the members take {size / 2**30:.1f} GiB, and an ONNX file holds less than 2 GiB; export "
            "with format='tf_saved_model', or a subset of the members."
        )
    onnx = import_onnx()
    builder = GraphBuilder()
    graphs = ensemble.onnx_graphs()
    members = [_add_member(builder, onnx, index, graphs[index], data) for index, data in enumerate(ensemble.weights)]
    _add_vote(builder, members, ensemble.num_classes, soft, thresholds)
    make, classes = onnx.helper, ["n", ensemble.num_classes]
    outputs = [
        make.make_tensor_value_info("prediction", TYPES["int64"], ["n"]),
        make.make_tensor_value_info(PROBABILITY, _DOUBLE, classes),
        make.make_tensor_value_info("rawPrediction", _DOUBLE, classes),
    ]
    image = make.make_tensor_value_info(IMAGE, TYPES["float32"], ["n", *ensemble.input_shape])
    model = make.make_model(
        make.make_graph(builder.nodes, "ensemble", [image], outputs, builder.constants),
        opset_imports=[make.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=_PRODUCER,
        producer_version=__version__,
    )
    values = _metadata(ensemble, soft, thresholds)
    make.set_model_props(model, {key: v if isinstance(v, str) else json.dumps(v) for key, v in values.items()})
    path.write_bytes(model.SerializeToString())


def _add_member(builder: GraphBuilder, onnx: Any, index: int, graph: Any, weights: bytes) -> str:
    """Add a member's nodes and weights; the name of its softmax."""
    prefix, arrays = f"member_{index}/", unpack_weights(weights)
    if not graph.fits(arrays):
        raise ValueError(misfit(index))
    model = onnx.ModelProto.FromString(graph.with_weights(arrays))
    named = onnx.compose.add_prefix_graph(model.graph, prefix)
    builder.add("Identity", [IMAGE], output=prefix + IMAGE)
    builder.nodes.extend(named.node)
    builder.constants.extend(named.initializer)
    return prefix + PROBABILITY


def _add_vote(
    builder: GraphBuilder, members: Sequence[str], classes: int, soft: bool, thresholds: np.ndarray | None
) -> None:
    """The decision of `worker.decision`, in float64 as there."""
    add, constant = builder.add, builder.constant
    softmax, votes = [], []
    every_class = constant(np.arange(classes)[None])
    for member in members:
        softmax.append(add("Cast", [member], to=_DOUBLE))
        vote = add("ArgMax", [member], axis=1, keepdims=1)
        votes.append(add("Cast", [add("Equal", [vote, every_class])], to=_DOUBLE))
    total = add("Sum", softmax)
    # Pooling and ReLU may swallow a NaN, so that the input is looked at: 0 * x is NaN where x is not finite.
    nothing = add("Mul", [add("Cast", [IMAGE], to=_DOUBLE), constant(np.array(0.0))])
    faults = add("Cast", [add("IsNaN", [nothing])], to=_DOUBLE)
    row = add("Cast", [add("ReduceMax", [add("Flatten", [faults], axis=1)], axes=[1], keepdims=1)], to=_BOOLEAN)
    image = add("Cast", [add("ReduceMax", [faults], axes=[1, 2, 3], keepdims=0)], to=_BOOLEAN)
    counted = [row, constant(np.array(np.nan)), total if soft else add("Sum", votes)]
    raw = add("Where", counted, output="rawPrediction")
    score = add("Div", [raw, constant(np.array(float(len(members))))], output=PROBABILITY)
    lowest = constant(np.array(-1.0))
    if thresholds is not None:
        score = add("Div", [score, constant(thresholds)])
        score = add("Where", [add("IsNaN", [score]), lowest, score])  # 0 / 0: the class is never chosen
    tied = add("Equal", [score, add("ReduceMax", [score], axes=[1], keepdims=1)])
    best = add("ArgMax", [add("Where", [tied, total, lowest])], axis=1, keepdims=0)
    add("Where", [image, constant(np.array(-1)), best], output="prediction")
