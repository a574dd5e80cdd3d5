# What the steel studies share: two pretrainings, on all pictures and on a tenth of them, and training from scratch.
study = dict(
    starts={'pretrained': 'pretrain', 'pretrained on 10 %': 'pretrain_10', 'from scratch': None},
    labels=[100, 30, 10],
    seeds=3)
