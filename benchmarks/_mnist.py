"""Params for MNIST's rows, and the wide network."""

PARAMS = {"numClasses": 10, "inputShape": [28, 28, 1], "verbose": 0}

# Training and nothing else: no out-of-bag estimate, and ids, so that the draw hashes no pixels.
TRAINING_ONLY = {**PARAMS, "idCol": "id", "oobSampleSize": 0}


def wide_network():
    """A network of 3.3 million weights (13 MB), as Keras' JSON."""
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    ).to_json()
