# Small and short clips in large batches first, full clips last (arXiv 1912.00998).
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

progressive_size = 'multigrid'
