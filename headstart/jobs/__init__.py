"""Where a training runs: in this process, in several, or on a cluster's nodes."""
