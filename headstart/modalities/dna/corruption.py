"""The registry of the corruptions of sequences of DNA that robustness is judged under."""

from headstart.modalities.corruption import Corruption
from headstart.registry import Registry

CORRUPTIONS = Registry("dna_corruptions", "headstart.modalities.dna.corruptions", "CORRUPTION", Corruption)
