"""Facts on disk: what was decided and annotated, where it lies, the names of stages and phases, and how far it is."""
