# Cascade Mask R-CNN where it differs from Mask R-CNN, for a config to take: model = _base_.vitdet_cascade.
vitdet_cascade = dict(
    roi_head=dict(type='mae_plugin.BoxCascadeRoIHead', bbox_head=dict(reg_class_agnostic=True)))
