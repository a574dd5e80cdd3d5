# Steel surfaces, NEU-DET and NEU-Seg. tools/train.py and tools/test.py convert the published archives on first use, if
# they lie in data/ as named here; tools/datasets/neu.py takes them (or unpacked folders) from anywhere.
prepare_data = dict(type='neu', root='data/neu', det='data/neu_det.tar', seg='data/neu_seg.tar')
