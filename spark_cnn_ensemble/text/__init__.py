"""The text matrix: a text file with one row per line, as `numpy.savetxt` writes it."""
