"""What people drive: the pipelines, their recipes, where their steps run, and the command line."""
