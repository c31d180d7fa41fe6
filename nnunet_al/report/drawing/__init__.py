"""The pictures: curves, bars, matrices and slices, in colours that colour-blind people tell apart."""
