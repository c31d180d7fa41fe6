"""Phantoms: datasets without patients, for trying things out and for tests."""
