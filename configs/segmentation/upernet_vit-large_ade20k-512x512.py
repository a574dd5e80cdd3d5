"""UPerNet with MAE's ViT-L/16 on ADE20K.

    bash tools/dist_train.sh configs/segmentation/upernet_vit-large_ade20k-512x512.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-large-p16_in1k/iter_499200.pth

160,000 iterations at batch 16 (8 GPUs x 2). Published: 53.6 mIoU with one scale (He et al., 2022, Table 5), from raw
pixels 51.8 (Table 7). The recipe is not: the paper searched a learning rate and names none. The nearest that is public
is BEiT-L's (microsoft/unilm), from which are learning rate, layer decay, drop path, blocks and the width of the head;
all else is the recipe of ViT-B. Not taken over is BEiT's layer scale of 1e-6, which its pretraining has and which here
would erase what the encoder knows; 1.0 is that of ViT-B's reproduction.
"""
_base_ = './upernet_vit-base_ade20k-512x512.py'
recipe = dict(_delete_=True, batch_size=16)
model = dict(
    backbone=dict(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        out_indices=(7, 11, 15, 23),
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='work_dirs/mae_vit-large-p16_in1k/iter_499200.pth')),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),
    auxiliary_head=dict(in_channels=1024))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.95), optimizer=dict(lr=2e-5))
