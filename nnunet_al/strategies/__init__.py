"""A strategy is a recipe over scoring and selection; the catalog names every method with its paper."""
