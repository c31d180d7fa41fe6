"""What campaigns have written, as the report reads it: runs, their rounds, and which of them compare."""
