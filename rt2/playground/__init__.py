"""The page of `make serve ARGS=--ui`: a policy and the tabletop in a browser."""
