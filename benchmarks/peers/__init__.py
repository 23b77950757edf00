"""headstart, and the peer that it is measured against: what an expert would write for this very case.

Each module has `train(work)`: it makes a model of a folder of pictures and a source, and tells `work.watch` when the
pictures are ready, of each epoch and of its start.
"""
