"""A network is converted to ONNX as Keras computes it, or refused by the name of a layer."""

import sys
from dataclasses import replace

import pytest
from support.bags import SMALL
from support.networks import network_json
from support.refusals import refused

from spark_cnn_ensemble.onnx_conversion import check_computation
from spark_cnn_ensemble.onnx_writer import onnx_graph
from spark_cnn_ensemble.worker.runtime import load_tensorflow


@pytest.fixture(scope="module")
def layers():
    load_tensorflow()
    from keras import layers

    return layers


# Layers for images of shape (8, 8, 1); onnx_graph itself compares the graph with Keras on noise.
NETWORKS = {
    "batch normalization and GELU": lambda make: [
        make.Conv2D(4, 3),
        make.BatchNormalization(),
        make.Activation("gelu"),
    ],
    "separable": lambda make: [make.SeparableConv2D(4, 3, activation="swish"), make.DepthwiseConv2D(3)],
    "strides and padding": lambda make: [
        make.Conv2D(4, 3, 2, "same"),
        make.ZeroPadding2D(),
        make.Conv2DTranspose(2, 3),
    ],
    "other normalizations": lambda make: [make.Conv2D(4, 3), make.LayerNormalization(), make.GroupNormalization(2)],
    "augmentation": lambda make: [make.RandomFlip(), make.RandomRotation(0.1), make.GaussianNoise(0.1)],
    "pooling": lambda make: [make.AveragePooling2D(2), make.UpSampling2D(), make.Resizing(5, 5)],
    "recurrent": lambda make: [make.Reshape((8, 8)), make.LSTM(5)],
    "a weight that is not used": lambda make: [make.SpectralNormalization(make.Conv2D(4, 3))],
}


def classifier(layers, *hidden):
    text = network_json(*hidden, layers.Flatten(), layers.Dense(10, activation="softmax"), shape=(8, 8, 1))
    return replace(SMALL, network=text)


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_is_converted(layers, case):
    graph = onnx_graph(classifier(layers, *NETWORKS[case](layers)))
    assert len(graph.model) < 100_000  # without weights
    assert len(graph.names) == len(graph.shapes)


def test_a_layer_that_cannot_be_converted_is_refused_by_name(layers):
    network = classifier(layers, layers.Conv2D(4, 3), layers.Discretization(bin_boundaries=[0.0], name="steps"))
    assert refused(onnx_graph, network) == (
        "The network has the layer 'steps', which cannot be converted to ONNX (operation Bucketize); set "
        "scoringEngine='tensorflow', or leave that layer out of the network."
    )


def test_a_graph_that_computes_other_numbers_is_refused(layers):
    graph = onnx_graph(classifier(layers, layers.Conv2D(4, 3, activation="relu")))
    text = refused(check_computation, graph, classifier(layers, layers.Conv2D(4, 3, activation="tanh")))
    assert text.startswith("onnxruntime computes other numbers than TensorFlow with this network (difference ")


def test_weights_that_a_graph_cannot_hold_are_refused():
    assert refused(onnx_graph, replace(SMALL, dense_units=10**8)) == (
        "A member's weights take 27.9 GiB, and an ONNX graph holds less than 2 GiB; use scoringEngine='tensorflow', or "
        "a smaller network."
    )


@pytest.mark.parametrize("package", ["onnx", "tf2onnx"])
def test_a_missing_package_is_named(layers, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    text = refused(onnx_graph, classifier(layers, layers.Dropout(0.1, name=package)), kind=ImportError)
    assert f"need the package {package}, " in text and text.endswith("pip install 'spark-cnn-ensemble[onnx]'.")
