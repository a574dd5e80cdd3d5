"""Helpers of the command line tools; ``--help`` is instant, so torch and MMEngine are imported only when used."""
