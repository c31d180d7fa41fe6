"""How good a segmentation is: Dice and surface distances, by case and over cases."""
