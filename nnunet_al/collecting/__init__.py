"""Taking back what readers returned: which files, what is in them, and what becomes of it in the ledger."""
