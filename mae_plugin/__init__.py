"""Masked autoencoders (MAE, He et al., CVPR 2022) for OpenMMLab."""

__version__ = '0.1.0'
