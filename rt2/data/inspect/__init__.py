"""A look at a robot data set: figures, a page, a recording, a proposed config."""
