"""The Python interface: what `import headstart` offers, each function the one that the command line calls."""
