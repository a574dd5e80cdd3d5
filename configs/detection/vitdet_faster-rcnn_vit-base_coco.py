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
without_masks = {
    'LoadAnnotations': dict(type='LoadAnnotations', with_bbox=True),
    'mae_plugin.FixedSizeCrop': dict(type='mae_plugin.FixedSizeCrop', crop_size=(1024, 1024)),
}
train_dataloader = dict(
    dataset=dict(
        pipeline=[without_masks.get(step['type'], step) for step in _base_.train_dataloader.dataset.pipeline]))
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
del without_masks
