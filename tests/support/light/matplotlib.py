"""Not in the workers of tests: Keras imports scikit-learn and matplotlib, which takes 1.2 s of CPU time per process."""

raise ImportError("the workers of tests have no matplotlib")
