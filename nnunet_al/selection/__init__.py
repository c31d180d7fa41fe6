"""Pure functions from scores or embeddings to a batch: indices and gains."""
