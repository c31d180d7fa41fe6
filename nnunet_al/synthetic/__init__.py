"""Synthetic datasets for demos, tests and experiments: phantoms and biased cohorts."""
