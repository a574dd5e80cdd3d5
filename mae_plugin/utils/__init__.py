"""Helpers of the command line tools. Nothing here imports torch or MMEngine before it is called: ``--help`` is instant."""
