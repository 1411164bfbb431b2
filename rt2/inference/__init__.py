"""Inference: decode only valid actions, serve them, export them."""
