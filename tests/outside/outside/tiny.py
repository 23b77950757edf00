"""tiny: images that are stored at 8 x 8 pixels unless somebody asks for another size."""

from headstart.modalities.image import Image


class Tiny(Image):
    def default_size(self, architecture: str) -> int:
        return 8


MODALITY = Tiny()
