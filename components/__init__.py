"""What a pod runs: one folder a step, a thin Kubeflow component each.

A component maps artifacts and parameters to calls of the library and their results back to artifacts. It imports the
library inside its body, because only its body travels: as source in the compiled pipeline.
"""

from headstart.version import __version__

# The image that every step runs in unless a profile or --image names another.
IMAGE = f"headstart:{__version__}"
