"""The embedded tabletop: pictograms, the 2-D world they stand in, and the data sets made of it."""
