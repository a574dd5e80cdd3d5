# ViT-H/14 where it differs from ViT-B/16, for a config to take: backbone=dict(**_base_.vit_huge, ...). Listed as a base
# it changes no model by itself. ViTDet's has patches of 16 pixels, to which the pretrained filters are resized.
vit_huge = dict(
    patch_size=14,
    embed_dim=1280,
    depth=32,
    num_heads=16,
    init_cfg=dict(checkpoint='work_dirs/mae_vit-huge-p14_in1k/iter_499200.pth'))
vitdet_huge = dict(
    vit_huge,
    patch_size=16,
    window_block_indexes=[i for i in range(32) if i not in (7, 15, 23, 31)],
    init_cfg=dict(vit_huge['init_cfg'], resize=True))
