# CNN-LSTM (after arXiv 1411.4389): a 2D ResNet-50 describes each frame, a 2-layer LSTM
# reads the descriptions in order.
model = dict(
    type='Recognizer2D',
    backbone=dict(
        type='ResNet',
        depth=50,
        norm_eval=False,
        pretrained='${starts[start].image_weights}'),
    cls_head=dict(
        type='LSTMHead',
        in_channels=2048,
        hidden_size=512,
        num_layers=2,
        dropout_ratio=0.5,
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}',
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor',
        mean='${starts[start].mean}',
        std='${starts[start].std}',
        blending='${mixings[mixing]}',
        format_shape='NCHW'))
