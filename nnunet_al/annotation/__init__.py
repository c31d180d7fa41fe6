"""Who annotates: the oracle, which reads the dataset's own labels."""
