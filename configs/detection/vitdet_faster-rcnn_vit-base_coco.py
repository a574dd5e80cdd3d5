"""ViTDet Faster R-CNN with MAE's ViT-B/16 on COCO: boxes without masks, for data that has no masks.

    bash tools/dist_train.sh configs/detection/vitdet_faster-rcnn_vit-base_coco.py 8 --fit-batch accumulate

The recipe of ``vitdet_mask-rcnn_vit-base_coco.py`` without its mask head; boxes are cropped, there being no masks to
take them from. No number is published for it.
"""
_base_ = './vitdet_mask-rcnn_vit-base_coco.py'
recipe = dict(_delete_=True, batch_size=64)
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='RandomResize', scale=(1024, 1024), ratio_range=(.1, 2.), keep_ratio=True, backend='pillow'),
            dict(type='mae_plugin.FixedSizeCrop', crop_size=(1024, 1024)),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), keep_empty=False),
            dict(type='PackDetInputs'),
        ]))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
