"""The page that holds it all, and the commands that repeat it."""
