"""The regularisers, one file each."""
