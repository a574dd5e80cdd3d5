"""Model parts, all registered under the scope ``mae_plugin``."""
