"""What a config needs on a named accelerator topology, compiled ahead of time."""
