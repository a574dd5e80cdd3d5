"""MAE pretraining of ViT-S on small images of your own: 96x96 pixels in patches of 8, 144 of them.

    python tools/train.py configs/pretrain/mae_vit-small-p8_images-96px.py --cfg-options \
        train_dataloader.dataset.data_root=IMAGES

For images of 32 to 128 pixels: cells, chips, tiles of a map. Patches of 4 are for 32 to 64 pixels
(``model.backbone.img_size=48 model.backbone.patch_size=4``).
"""
_base_ = './mae_vit-small-p16_images.py'
model = dict(backbone=dict(img_size=96, patch_size=8))
