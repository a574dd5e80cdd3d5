"""UPerNet with MAE's ViT-B/16 on your images: edit the five lines below ``_base_``.

    python tools/train.py configs/segmentation/upernet_vit-base_custom.py --cfg-options \
        model.backbone.init_cfg.checkpoint=work_dirs/mae_vit-base-p16_in1k/iter_499200.pth

Images lie in <data_root>/images/{train,val}, maps of the same names in <data_root>/annotations/{train,val}: PNGs of one
channel whose values are the places in ``classes`` (0 the first), and 255 for pixels to ignore. Images are resized to
fit 2048x512, as on ADE20K.

Ours: 20,000 iterations at batch 8 suit some hundred to some thousand images. The learning rate is ADE20K's and follows
the batch; layer decay is weaker, because the encoder has fewer iterations to move in.
"""
_base_ = './upernet_vit-base_ade20k-512x512.py'
data_root = 'data/my_images'
classes = ('background', 'object')
image_suffix = '.jpg'
map_suffix = '.png'
iterations = 20_000

recipe = None
norm_cfg = dict(type='BN', requires_grad=True)  # for one GPU; for several SyncBN
model = dict(
    backbone=dict(init_values=None),
    neck=dict(norm_cfg=norm_cfg),
    decode_head=dict(num_classes=len(classes), norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=len(classes), norm_cfg=norm_cfg))
images = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    img_suffix=image_suffix,
    seg_map_suffix=map_suffix)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(**images, data_prefix=dict(img_path='images/train', seg_map_path='annotations/train')))
val_dataloader = dict(
    dataset=dict(**images, data_prefix=dict(img_path='images/val', seg_map_path='annotations/val')))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=iterations // 20),
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=0),
]
train_cfg = dict(max_iters=iterations, val_interval=iterations // 10)
default_hooks = dict(checkpoint=dict(interval=iterations // 10))
del data_root, classes, image_suffix, map_suffix, iterations, images
