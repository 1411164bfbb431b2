"""Vision-language models: the PaLI and PaLM-E families."""
