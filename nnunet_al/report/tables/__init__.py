"""The tables of the report, for its page and as CSV."""
