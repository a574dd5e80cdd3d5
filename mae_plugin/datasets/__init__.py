"""Data sets, transforms and samplers, registered under the scope ``mae_plugin``."""
