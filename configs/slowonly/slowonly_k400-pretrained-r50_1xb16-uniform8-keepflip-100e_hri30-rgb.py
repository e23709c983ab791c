# The mistake, to compare with: a flip that keeps the label, wrong for 12 classes.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

flip = 'keep_label'
