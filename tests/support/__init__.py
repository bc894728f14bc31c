"""What several test files share: inputs, classifiers, processes, and ways to compare results."""
