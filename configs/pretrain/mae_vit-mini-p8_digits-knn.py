"""MAE pretraining on the built-in scenes of digits, with the kNN accuracy of its features at every validation.

    python tools/train.py configs/pretrain/mae_vit-mini-p8_digits-knn.py

The hook fits any pretraining: ``data_root`` is a folder with a subfolder for each class. On the digits the accuracy
stays near chance, 10 %: so small a model keeps what it knows of them in the patches.
"""
_base_ = './mae_vit-mini-p8_digits.py'
labelled = dict(
    batch_size=100,
    num_workers=1,
    dataset=dict(
        type='mae_plugin.UnlabelledImages',
        data_root='data/digit_scenes/classification/train',
        pipeline=[
            dict(type='mae_plugin.ResizeCenterCrop', size=96, crop_share=1.0),
            dict(type='mae_plugin.PackUnlabelled'),
        ]))
query = dict(labelled, dataset=dict(labelled['dataset'], data_root='data/digit_scenes/classification/val'))
custom_hooks = [dict(type='mae_plugin.KNNHook', bank=labelled, query=query, k=20, temperature=0.07)]
del labelled, query
