"""The same with FSDP."""
_base_ = ['./tiny_mae.py', '../../configs/_base_/fsdp.py']
