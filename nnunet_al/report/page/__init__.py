"""The HTML page: its sections, its markup, and the commands that repeat the campaigns."""
