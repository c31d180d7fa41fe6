"""Datasets without patients, for trying things out, for tests and for experiments: phantoms and biased cohorts."""
