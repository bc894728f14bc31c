"""From a user's DataFrame to training rows: columns and their faults, the draw of the bags. Spark expressions only."""
