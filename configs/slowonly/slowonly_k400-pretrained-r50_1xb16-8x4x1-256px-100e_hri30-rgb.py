# The sampling of the HRI30 paper: 8 frames, every 4th, 256 x 256.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

input_size = (256, 256)
decode_size = 292  # short side in pixels

train_pipeline = _base_.train_pipeline
train_pipeline[1] = dict(type='SampleFrames', clip_len='${num_frames}', frame_interval=4)
test_pipeline = _base_.test_pipeline
test_pipeline[1] = dict(**train_pipeline[1], test_mode=True)
