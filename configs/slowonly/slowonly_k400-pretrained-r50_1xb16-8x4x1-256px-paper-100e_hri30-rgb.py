# The SlowOnly of the HRI30 paper on its splits, as far as the paper describes it.
# docs/protocol.md lists what it leaves open; hri30 reproduce runs all splits.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-8x4x1-256px-100e_hri30-rgb.py'

split = dict(type='paper', number=1, val_groups=0)  # nothing is chosen: the last epoch
flip = 'keep_label'  # a plain random flip, though it is wrong for 12 classes
color_jitter = None  # the paper names the flip only
random_crop = None
