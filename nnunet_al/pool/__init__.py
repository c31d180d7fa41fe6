"""Regions for annotation, their boxes in raw and in network space, tiles and windows."""
