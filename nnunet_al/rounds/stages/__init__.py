"""One module for each stage of a round, named like the marker that the stage leaves; `order` lists them in order."""
