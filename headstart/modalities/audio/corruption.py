"""The registry of the corruptions of recordings that robustness is judged under.

They change stored maps, uint8 (N, frames, mels, 1), as the same change of the sound would; lengths are shares of the
map's.
"""

from headstart.modalities.corruption import Corruption
from headstart.registry import Registry

CORRUPTIONS = Registry("audio_corruptions", "headstart.modalities.audio.corruptions", "CORRUPTION", Corruption)
