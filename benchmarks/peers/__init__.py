"""The libraries that headstart's training is measured against, one small module each, and headstart itself.

Each module has `train(work, tuned)`: it trains `work.network` as a user of that library would, with what its quick
start shows or (`tuned`) with the best settings that its documentation names, and tells `work.watch` of its start and of
each epoch.
"""
