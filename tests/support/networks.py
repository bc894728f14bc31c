"""Keras networks as JSON."""


def network_json(*layers, shape=(2, 2, 1)):
    import keras

    return keras.Sequential([keras.Input(shape), *layers]).to_json()
