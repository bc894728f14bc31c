"""The text matrix: one row per line, numbers with a separator between them, the label first or last."""
