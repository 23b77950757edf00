"""A hub of models for tests: a server with the addresses and headers of the Hugging Face hub, on this machine."""
