"""ViTDet Faster R-CNN on a ViT-S/16 of your own pretraining: edit the lines of ``..._vit-base_custom-coco.py``.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-small_custom-coco.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-small-p16_images/iter_100000.pth

For Pascal VOC's folders put ``_base_`` to ``./vitdet_faster-rcnn_vit-base_custom-voc.py``.
"""
_base_ = './vitdet_faster-rcnn_vit-base_custom-coco.py'
model = dict(backbone=dict(embed_dim=384, num_heads=6), neck=dict(in_channels=384))
