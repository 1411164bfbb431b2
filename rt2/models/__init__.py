"""Vision-language models: the PaLI family."""
