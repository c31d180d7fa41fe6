"""Figures and pictures: curves, bars, matrices and slices, in colours that colour-blind people can tell apart."""
