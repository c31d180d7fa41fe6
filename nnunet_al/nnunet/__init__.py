"""Everything that touches nnU-Net: planning, fingerprint, preprocessing, trainer, checkpoints."""
