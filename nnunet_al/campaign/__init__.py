"""What was decided, what was annotated, and the round as resumable stages."""
