"""Self-contained HTML pages: no script, no network, readable light and dark."""
