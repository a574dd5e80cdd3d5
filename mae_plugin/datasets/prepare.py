"""Data that a config asks for before the Runner is built: ``prepare_data = dict(type='digit_scenes', root=...)``."""

import inspect
from collections.abc import Mapping

from mae_plugin.datasets.digit_scenes import ensure_digit_scenes
from mae_plugin.datasets.neu import ensure_neu
from mae_plugin.datasets.spectral_scenes import ensure_spectral_scenes

MAKERS = {'digit_scenes': ensure_digit_scenes, 'neu': ensure_neu, 'spectral_scenes': ensure_spectral_scenes}


def prepare_data(cfg: Mapping) -> None:
    """Make the data that ``cfg['prepare_data']`` describes, unless it is there; without that key do nothing.

    Every process of a distributed run may call this at any time: the first of each machine makes, the others wait.

    Args:
        cfg: The whole config; ``prepare_data`` has a ``type`` of ``MAKERS``, and that maker's arguments.

    Raises:
        ValueError: An unknown type or setting, or the folder was made with other settings.
        FileNotFoundError: What the data is made from is missing.
        ModuleNotFoundError: A package that the maker needs is missing.
        TimeoutError: Another process of this machine did not finish making it.
    """
    spec = cfg.get('prepare_data')
    if spec is None:
        return
    settings = dict(spec)
    kind = settings.pop('type', None)
    if kind not in MAKERS:
        raise ValueError(f'prepare_data: type={kind!r} is none of {", ".join(MAKERS)}')
    try:
        inspect.signature(MAKERS[kind]).bind(**settings)
    except TypeError as error:
        raise ValueError(f'prepare_data, type={kind!r}: {error}') from None
    MAKERS[kind](**settings)
