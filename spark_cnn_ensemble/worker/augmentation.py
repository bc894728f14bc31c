"""Random shifts and flips of a batch of images, inside TensorFlow's graph.

The random numbers are stateless, a pure function of a seed. Called by `trainer`.
"""

from __future__ import annotations

from typing import Any


def augment(images: Any, seed: Any, shift: int, flip: bool) -> Any:
    """Shift each image by up to `shift` pixels in each direction, and mirror half of the images, at random.

    Parameters
    ----------
    images : tensorflow.Tensor
        Shape (n, height, width, channels), any type.
    seed : tensorflow.Tensor
        Shape (2,), int32.
    shift : int
        The pixels at the edge are repeated where others move in: whatever the background is, it has no seam.
    flip : bool
        Whether each image is mirrored left to right with probability 1/2.
    """
    import tensorflow as tf

    count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    if flip:
        mirrored = tf.random.stateless_uniform([count, 1, 1, 1], seed + tf.constant([0, 1 << 20])) < 0.5
        images = tf.where(mirrored, images[:, :, ::-1], images)
    if shift:
        offset = tf.random.stateless_uniform([count, 2], seed, maxval=2 * shift + 1, dtype=tf.int32) - shift
        rows = tf.clip_by_value(offset[:, :1] + tf.range(height)[None], 0, height - 1)
        columns = tf.clip_by_value(offset[:, 1:] + tf.range(width)[None], 0, width - 1)
        images = tf.gather(tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return images
