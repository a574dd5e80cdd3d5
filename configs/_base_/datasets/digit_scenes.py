# The built-in scenes of handwritten digits: tools/train.py and tools/test.py make them on first use, in seconds.
# The settings (preset='quick', size, seed, numbers of images) are described in mae_plugin/datasets/digit_scenes.py.
prepare_data = dict(type='digit_scenes', root='data/digit_scenes')
