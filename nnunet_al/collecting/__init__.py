"""Collect the files that readers return: find them, check them and enter their labels in the ledger."""
