"""RT-2 in the open: vision-language-action models, trained in JAX."""
