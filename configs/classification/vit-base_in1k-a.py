"""A ViT-B/16 fine-tuned on ImageNet-1K, tested on ImageNet-A: photographs that ResNets get wrong.

    python tools/test.py configs/classification/vit-base_in1k-a.py work_dirs/vit-base_in1k/iter_125100.pth

7,500 images of 200 of the 1,000 classes; the scores of the other 800 are left out, as the authors of the set do.
Published top-1 (He et al., 2022, Table 13): ViT-B 35.9, L 57.1, H 68.2, H at 448 pixels 76.7 %. For these, a config
with ``_base_`` './vit-large_in1k.py', './vit-huge_in1k.py' or './vit-huge_in1k-448px.py' instead, the rest as here.
"""
_base_ = './vit-base_in1k.py'
recipe = dict(_delete_=True, batch_size=1024)  # not the published test
test_dataloader = dict(dataset=dict(data_root='data/imagenet-a', data_prefix='', with_label=False))
test_evaluator = dict(_delete_=True, type='mae_plugin.SynsetAccuracy', classes='imagenet_a')
