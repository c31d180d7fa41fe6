"""Evidence that needs a round's model: overlays, a map of the embeddings, uncertainty against error, redundancy."""
