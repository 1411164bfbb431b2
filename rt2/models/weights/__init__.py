"""Public and own weights into a model: what stands in a file, under which name, in which axes."""
