"""The corruptions that robustness is judged under, one file each."""
