"""Code that runs on executors: plain functions of plain values, with TensorFlow imported inside them."""
