"""A ViT of timm with four register tokens (Darcet et al., 2024, arXiv 2309.16588), SwiGLU (Shazeer, 2020, arXiv
2002.05202) and layer scale, as DINOv2's are (Oquab et al., 2024, arXiv 2304.07193, appendix B.1).

    python tools/train.py configs/parts/backbone_timm-registers-swiglu.py

The name gives the parts, the other arguments the size of the mini model. Layer scale starts at 0.1: at timm's 1e-5 the
blocks would add next to nothing for as long as this short run lasts.
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(
    backbone=dict(
        _delete_=True, type='mae_plugin.TimmViT', name='vit_giant_patch14_reg4_dinov2', img_size=96, patch_size=8,
        embed_dim=128, depth=4, num_heads=4, mlp_ratio=4, init_values=0.1, freeze_pos_embed=True))
