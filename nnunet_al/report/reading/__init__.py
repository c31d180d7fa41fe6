"""Campaigns as the report reads them from disk: runs, their rounds, and the lines and comparisons that they form."""
