"""Members of headstart's registries from a package outside."""
