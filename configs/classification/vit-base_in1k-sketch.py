"""A ViT-B/16 fine-tuned on ImageNet-1K, tested on ImageNet-Sketch: drawings in black and white.

    python tools/test.py configs/classification/vit-base_in1k-sketch.py work_dirs/vit-base_in1k/iter_125100.pth

50,889 images of all 1,000 classes. Published top-1 (He et al., 2022, Table 13): ViT-B 34.5, L 45.3, H 49.6, H at 448
pixels 50.9 %. For these, a config with ``_base_`` './vit-large_in1k.py', './vit-huge_in1k.py' or
'./vit-huge_in1k-448px.py' instead, the rest as here.
"""
_base_ = './vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=1024)  # not the published test
test_dataloader = dict(dataset=dict(data_root='data/imagenet-sketch', data_prefix='', with_label=False))
test_evaluator = dict(_delete_=True, type='mae_plugin.SynsetAccuracy', classes='imagenet')
