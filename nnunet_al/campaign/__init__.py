"""Facts on disk: decisions, annotations, folders, the names of stages and phases, and progress."""
