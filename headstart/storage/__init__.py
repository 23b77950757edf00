"""Storage: atomic local writes, S3 objects, a content-addressed cache."""
