"""UPerNet with MAE's ViT-B/16 on ADE20K, with decomposed relative position in place of bias tables and layer scale.

    bash tools/dist_train.sh configs/segmentation/upernet_vit-base_ade20k-512x512_decomposed.py 8 --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

Ours; no number is published. The relative position of ViTDet (Li et al., 2022), which looks at the query: one table for
rows and one for columns, no class token.
"""
_base_ = './upernet_vit-base_ade20k-512x512.py'
recipe = dict(_delete_=True, batch_size=16)
model = dict(
    backbone=dict(
        with_cls_token=False,
        init_values=None,
        rel_pos=dict(type='mae_plugin.DecomposedRelPos')))
