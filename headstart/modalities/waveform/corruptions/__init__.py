"""The corruptions of waveforms that robustness is judged under, one file each."""
