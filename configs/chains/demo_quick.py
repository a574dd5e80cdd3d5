"""The chain of ``demo.py`` in a fraction of its iterations: shows that everything works, not what it is worth.

    DEMO=quick make demo
"""
_base_ = ['./demo.py']
work_dir = 'work_dirs/demo_quick'
