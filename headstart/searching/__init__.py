"""A search with a budget over sources, strategies and their settings, which chooses on the label budget alone."""
