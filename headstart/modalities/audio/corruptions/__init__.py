"""The corruptions of recordings that robustness is judged under, one file each."""
