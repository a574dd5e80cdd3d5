"""ViTDet Faster R-CNN with MAE's ViT-B/16 on boxes of your own, in a folder as Pascal VOC's: edit the five lines below.

    python tools/train.py configs/detection/vitdet_faster-rcnn_vit-base_custom-voc.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

The folder holds an .xml file for each .jpg image, and lists of the images' names without ending. Tested by COCO's
average precisions, for which objects marked as difficult do not count. Schedule and settings are those of
``vitdet_faster-rcnn_vit-base_custom-coco.py``.
"""
_base_ = './vitdet_faster-rcnn_vit-base_custom-coco.py'

data_root = 'data/custom_voc'
classes = ('cat', 'dog')  # names of the objects; a single one is written ('cat', )
ann_files = dict(train='ImageSets/Main/train.txt', val='ImageSets/Main/val.txt')  # below data_root, as the folders
folders = dict(img_subdir='JPEGImages', ann_subdir='Annotations')
max_iters = 5000

model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
images = dict(
    type='VOCDataset', data_root=data_root, metainfo=dict(classes=classes),
    data_prefix=dict(_delete_=True, sub_data_root=''), **folders)
train_dataloader = dict(dataset=dict(**images, ann_file=ann_files['train']))
val_dataloader = dict(
    dataset=dict(
        **images,
        ann_file=ann_files['val'],
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(1024, 1024), keep_ratio=True, backend='pillow'),
            dict(type='PackDetInputs',  # the metric takes the objects from the samples
                 meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances')),
        ]))
val_evaluator = dict(ann_file=None)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
del data_root, classes, ann_files, folders, images, max_iters
