"""Readers of image-text data: one module a format, one index for all of them."""
