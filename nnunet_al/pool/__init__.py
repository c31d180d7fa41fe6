"""What can be annotated: regions, their boxes in raw and in network space, tiles and windows."""
