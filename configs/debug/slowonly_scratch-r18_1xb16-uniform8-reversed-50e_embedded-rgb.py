# A control, for testing: the demo's checkpoint on clips that run backwards.
_base_ = '../demo/slowonly_scratch-r18_1xb16-uniform8-50e_embedded-rgb.py'

test_pipeline = _base_.test_pipeline
test_pipeline.insert(2, dict(type='FrameOrder', order='reversed'))
