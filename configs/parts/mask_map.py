"""Hidden is where a map of each image is bright, crops and flips included (the map comes from a file).

Here each image is its own map, so that the brightest parts are hidden. With ``folder='maps', suffix='.png'`` the map of
``data_root/a/b.jpg`` is ``maps/a/b.png``.

    python tools/train.py configs/parts/mask_map.py
"""
_base_ = ['../pretrain/mae_vit-mini-p8_digits.py']
model = dict(masking=dict(type='mae_plugin.MapMasking', mask_ratio=0.75))
train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mae_plugin.LoadMaskMap', suffix='.jpg'),
        dict(type='mae_plugin.KeyedRandomResizedCrop', size=None, scale=(0.5, 1.0)),
        dict(type='mae_plugin.PackUnlabelled'),
    ]))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='mae_plugin.LoadMaskMap', suffix='.jpg'),
        dict(type='mae_plugin.ResizeCenterCrop', size=None, crop_share=1.0),
        dict(type='mae_plugin.PackUnlabelled'),
    ]))
test_dataloader = val_dataloader
