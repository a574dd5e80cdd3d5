"""By how much the learning rate falls from each layer to the one before it, in fine-tuning on pictures of steel.

    python tools/ablate.py configs/ablations/neu_layer_decay.py
"""
_base_ = './_base_/neu_finetune.py'
title = 'Layer decay'
cells = {
    f'{rate}': dict.fromkeys(('detect', 'segment'), {'optim_wrapper.paramwise_cfg.layer_decay_rate': rate})
    for rate in (0.65, 0.8, 0.9, 1.0)
}
