"""The registry of the corruptions of proteins that robustness is judged under."""

from headstart.modalities.corruption import Corruption
from headstart.registry import Registry

CORRUPTIONS = Registry("protein_corruptions", "headstart.modalities.protein.corruptions", "CORRUPTION", Corruption)
