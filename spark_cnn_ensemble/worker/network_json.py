"""Which Keras JSON is safe to load: nothing but Keras' own layers and functions for networks.

A network's JSON may come with a saved model from anyone. Nothing here imports Keras. Called by `network` and
`network_check`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from spark_cnn_ensemble.worker.refusal import Refusal

# Parts of Keras whose classes networks consist of. Other parts read files, load models or change settings.
_PARTS_OF_KERAS = {
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "optimizers",
    "quantizers",
    "random",
    "regularizers",
}
_PLAIN_VALUES = {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}
_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
_READERS_OF_FILES = {"IndexLookup", "IntegerLookup", "StringLookup", "TextVectorization"}  # at any path they name


def read_network_json(text: str) -> dict[str, Any]:
    """Parse a Keras JSON and refuse anything in it that could run code when it is loaded.

    Every object in it must be Keras' own: no Lambda, no class or function of another module, no registered custom
    object. How the model was compiled is dropped.

    Raises
    ------
    Refusal
        Says what is wrong and how to fix it.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(
            f"The 'network' parameter is not JSON ({error}); pass model.to_json() of a Keras model."
        ) from None
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise Refusal("The 'network' parameter is JSON but not a Keras model; pass model.to_json() of a Keras model.")
    for node in _dicts(config):
        # How a model was compiled is not needed here, and Keras cannot count the weights of a compiled one.
        node.pop("compile_config", None)
        _check_keras_object(node)
    return config


def layers_in(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and config of every layer in a Keras JSON that was read before, at any depth."""
    for node in _dicts(read_network_json(text)):
        if isinstance(node.get("config"), dict):
            yield str(node.get("class_name")), node["config"]


def _dicts(config: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a JSON. The caller may take entries out of one before the next is asked for."""
    pending = [config]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _check_keras_object(node: dict[str, Any]) -> None:
    if "class_name" not in node:
        return
    name, registered = node["class_name"], node.get("registered_name")
    # Keras' classes are in CamelCase. Its functions, which a config may name as well, are not: one of them loads
    # models. The name of a registered object contains ">", and takes precedence over Keras' own of that name.
    known = isinstance(name, str) and (name in _PLAIN_VALUES or (name.isidentifier() and name[0].isupper()))
    if not known or registered not in (None, name) or not _of_keras(node.get("module")) or name in _CODE:
        raise Refusal(
            f"The 'network' parameter holds {str(name)[:60]!r}, which is custom code rather than a layer of Keras; "
            "use Keras' built-in layers only."
        )
    if name in _READERS_OF_FILES:
        raise Refusal(
            f"The 'network' parameter holds {name!r}, which reads words from files and is not for images; leave it out."
        )


def _of_keras(module: Any) -> bool:
    if module is None or module == "keras":
        return True
    package, *parts = str(module).split(".")
    if parts[:1] == ["src"]:
        parts = parts[1:]
    return package == "keras" and bool(parts) and parts[0] in _PARTS_OF_KERAS
