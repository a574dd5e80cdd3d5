"""Maps that say where an image is to be hidden."""

from pathlib import Path

from PIL import Image

from mae_plugin.registry import TRANSFORMS

from .picture import Picture, open_picture


@TRANSFORMS.register_module()
class LoadMaskMap:
    """Read the map of an image for :class:`~mae_plugin.models.MapMasking`: a grey picture of its shape.

    It is to stand in front of the crop: ``KeyedRandomResizedCrop``, ``KeyedRandomFlip`` and ``ResizeCenterCrop`` do to
    it what they do to the image, and ``PackUnlabelled`` puts it into the data sample as ``mask_map``, uint8 (H, W).

    Args:
        folder: Where the maps are: ``a/b.jpg`` below ``data_root``, or within an archive, has the map ``a/b`` with
            ``suffix`` below it. None for maps beside the images.
        suffix: What their names have in place of the image's extension, as ``'_mask.png'``.
    """

    def __init__(self, folder: str | None = None, suffix: str = '.png') -> None:
        self.folder, self.suffix = folder, suffix

    def __call__(self, results: dict) -> dict:
        """Reads ``results['mask_map']``.

        Raises:
            FileNotFoundError: if the image has no map.
            ImageReadError: if it cannot be read.
            ValueError: if its shape is another than the image's.
        """
        image = results['img_path']
        path = Path(image if self.folder is None else Path(self.folder, results['img_name']))
        path = path.with_name(path.stem + self.suffix)
        if not path.is_file():
            raise FileNotFoundError(f'LoadMaskMap: the image {image} has no map {path}: put it there, or change folder='
                                    f'{self.folder!r} or suffix={self.suffix!r} of the transform')
        picture = open_picture(path.read_bytes(), str(path), channels=1)
        (w, h), (width, height) = picture.size, results['img'].size
        if abs(w * height - h * width) > max(w, width) + max(h, height):  # more than rounding
            raise ValueError(f'LoadMaskMap: the map {path} is {h}x{w}, its image {image} {height}x{width}: give it the '
                             'same size, or at least the same ratio of height and width')
        if (w, h) != (width, height):
            picture = Picture(Image.fromarray(picture.resized((height, width))[..., 0]))
        return results | dict(mask_map=picture)
