"""Entry point of `python -m spark_cnn_ensemble`, the console script and spark-submit.

The commands are in `cli`.
"""

import sys

from spark_cnn_ensemble.cli import main

if __name__ == "__main__":
    sys.exit(main())
