"""Rows of dataset specs for public data sets; each names the sources it was written from."""
