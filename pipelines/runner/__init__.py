"""The local runner: a compiled package's graph, carried out by processes of this machine, without kfp."""
