"""The way from a user's DataFrame to bagged training rows, in Spark expressions only."""
