"""The columns of a user's DataFrame as Spark expressions: bagged training rows, and the cells to score.

`classes`, `shapes` and `training_rows.RowCounts` run small jobs.
"""
