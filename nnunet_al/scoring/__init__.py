"""Posterior samples, voxel maps, region scores and gradient embeddings: tensors in, numbers out."""
