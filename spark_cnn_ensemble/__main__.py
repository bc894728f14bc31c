"""Entry of `python -m spark_cnn_ensemble`, of the console script, and of spark-submit; the commands stand in `cli`."""

import sys

from spark_cnn_ensemble.cli import main

if __name__ == "__main__":
    sys.exit(main())
