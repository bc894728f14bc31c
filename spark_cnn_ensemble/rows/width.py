"""The refusal of rows that are too wide for Spark 3.5, which limits the rows of a batch for Python but not its bytes.

A batch that does not fit in memory hangs its job there. Called by `features`.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from spark_cnn_ensemble.engine.interface import BATCH_BYTES
from spark_cnn_ensemble.rows.columns import refusing


def if_not_too_wide(cells: Column, width: Column, name: str, row: Column, rows: int) -> Column:
    """The cells; the job fails with a sentence at a row if `rows` rows like it may not fit in memory.

    Parameters
    ----------
    cells : Column
    width : Column
        Bytes of the row's cells.
    name : str
        The user's name of the column.
    row : Column
        string; the row's name, or null.
    rows : int
        Rows of a batch.
    """
    if rows == 1:
        return cells
    most = F.greatest(F.lit(1), F.floor(F.lit(BATCH_BYTES) / width))
    start, end = F.lit(f"column '{name}' has "), F.lit(" or less")
    remedy = " bytes, and Spark before 4.0 limits the rows of a batch for Python, not its bytes; set "
    remedy += "spark.sql.execution.arrow.maxRecordsPerBatch to "
    fault = F.when(width > BATCH_BYTES // rows, F.concat(start, width, F.lit(remedy), most, end))
    return F.when(refusing(F.lit(1), fault, row, skippable=False) == 1, cells)
