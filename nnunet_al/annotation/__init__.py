"""Annotation by readers (batch folders, returned files) and by the oracle, which reads the dataset's own labels."""
