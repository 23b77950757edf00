"""The gates of a promotion, one file each; headstart/tracking/gate.py has their registry."""
