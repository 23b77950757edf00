"""Where bytes lie: atomic writes on local file systems, objects on S3."""
