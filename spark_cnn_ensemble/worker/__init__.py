"""Code that runs in Spark's Python workers: plain functions of plain values.

The modules import numpy, pandas, pyarrow and each other; TensorFlow, Keras, Pillow, onnxruntime and Spark's TaskContext
only inside functions; nothing else of the package. The driver calls the same code where it needs a network or a vote.
"""
