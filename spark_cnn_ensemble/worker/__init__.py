"""Code that runs in Spark's Python workers: plain functions of plain values.

The modules import numpy, pandas and each other; TensorFlow, Keras and Pillow only inside functions; nothing else of the
package. The driver calls the same code where it needs a network or a vote.
"""
