"""MAE pretraining of ViT-B/16 on large images of your own: 448x448 pixels, 784 patches, of which 196 are encoded.

    python tools/train.py configs/pretrain/mae_vit-base-p16_images-448px.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES

Where what matters is small in the image. A step is about four times as much work as at 224 pixels.
"""
_base_ = './mae_vit-base-p16_images.py'
model = dict(backbone=dict(img_size=448))
train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=64)
test_dataloader = dict(batch_size=64)
