# ViT-L/16 where it differs from ViT-B/16, for a config to take: backbone=dict(**_base_.vit_large, ...). Listed as a
# base it changes no model by itself.
vit_large = dict(
    embed_dim=1024,
    depth=24,
    num_heads=16,
    init_cfg=dict(checkpoint='work_dirs/mae_vit-large-p16_in1k/iter_499200.pth'))
vitdet_large = dict(**vit_large, window_block_indexes=[i for i in range(24) if i not in (5, 11, 17, 23)])
