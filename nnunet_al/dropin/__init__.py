"""Holds the shims of `trainers/` and `planners/` in an installed package; in a checkout they lie at its top."""
