# Frame2Freq (arXiv 2602.18977) in a frozen CLIP ViT-B/16, with the released code's recipe
# for Diving48.
_base_ = 'st-adapter_clip-vitb16_1xb16-uniform16-50e_hri30-rgb.py'
adapter = 'frame2freq'
num_frames = 32
batch_size = 8

max_epochs = 60
warmup_epochs = 5
lr = 0.002
decays = dict(cosine=dict(eta_min_ratio=0.01))
