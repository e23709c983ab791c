# A control: the demo on one frame repeated. What it scores is not owed to motion.
_base_ = '../demo/slowonly_scratch-r18_1xb16-uniform8-50e_embedded-rgb.py'

train_pipeline = _base_.train_pipeline
train_pipeline.insert(2, dict(type='FrameOrder', order='still'))
test_pipeline = _base_.test_pipeline
test_pipeline.insert(2, dict(type='FrameOrder', order='still', test_mode=True))
