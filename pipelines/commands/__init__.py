"""The commands, in groups: what each takes, and what it prints."""
