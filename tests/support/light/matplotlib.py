"""Not in the workers of tests: Keras imports it where it is, which takes 0.6 s of CPU time per process."""

raise ImportError("the workers of tests have no matplotlib")
