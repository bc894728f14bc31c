"""The jobs of a fit, which train the members and estimate the accuracy out of bag."""
