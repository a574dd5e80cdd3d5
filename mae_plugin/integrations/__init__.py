"""Parts made of classes of mmpretrain, mmdet or mmseg; ``registry.py`` imports a module when one of them is named."""
