# HRI30 and its pipelines: 8 frames over the whole clip, 224 x 224.

# ---- Frequently modified: a variant or --cfg-options sets these, nothing else ----
data_root = 'data/hri30'  # the folder with train_set/ and test_set/
classes = None  # None: HRI30's 30; or a list in the order of the ids, or a file of it
annotation = None  # None: found; 'names', 'folders', or a table or list in data_root
group_pattern = None  # r'(?P<group>s\d+)_', searched in the path of a clip
columns = None  # of a table without a known header: ['path', 'label', ...], in order
split = dict(
    type='group',  # 'group', 'random' (leaks), 'file', 'paper', 'lists' or 'given'
    number=1,  # paper, lists: which of the three splits
    folder=None,  # lists: where trainlist01.txt and testlist01.txt are
    val_groups=1,  # group, paper, lists: how many groups to hold out, or a list of them
    val_ratio=0.1,  # random: share of every class
    stratified=True,  # random: False draws from all clips together
    train_file=None,  # file: clip names, one a line; None: all not in val_file
    val_file=None,
    seed=42)
num_frames = 8  # frames of a clip that the model sees
sampling = 'segments'  # a name in samplings; mmaction2, linspace: in tests as well
input_size = (224, 224)  # width, height in pixels
decode_size = 256  # short side in pixels that frames are decoded to
batch_size = 16  # clips, on each GPU
num_workers = None  # decoding processes; None: all cores but one; no GPU: none
# Decode each clip once: 'memmap' (fastest, 13 MB a clip), 'jpeg', None, or 'auto': jpeg
# with a GPU if the disk has room, else None.
clip_cache = 'auto'
cache_dir = 'work_dirs/cache'  # where; hri30 cache fills it beforehand

leak_check = True  # no clip in two splits, by name or content; False does not compare

# Views of a clip at test time; their probabilities are averaged.
test_clips = 1  # samplings of the clip, each of num_frames other frames
test_crops = 1  # 3: middle and both ends of a frame, aspect ratio kept; 1: whole, squeezed
test_flip = False  # True: tools/test.sh averages with the mirrored clip, mapped back
# Class of unreadable test clips in the submission; None: no submission if there are any.
failed_class = None
certainty = 0.9  # that a set of classes holds the true one

# Augmentation of training clips: None switches a part off.
flip = 'label_aware'  # a name in flips
# Classes that a flip swaps, [['links', 'rechts'], ...]; None: by left, right, clockwise.
mirror_pairs = None
rand_augment = None  # a name in rand_augments
color_jitter = dict(  # the same for all frames of a clip
    type='ClipColorJitter', brightness=0.2, contrast=0.2, saturation=0.2)
random_crop = dict(
    area_range=(0.6, 1.0),  # of the frame's area
    aspect_ratio_range=(0.75, 1.33))  # width to height, against the frame's
random_erasing = None  # or a name in random_erasings
repeats = 1  # draws of each clip in a batch, which grows by them
mixing = None  # mixes the clips of a batch and their labels: a name in mixings
# ----------------------------------------------------------------------------------

flips = dict(
    # A mirrored clip gets the mirrored class: left turns into right.
    label_aware=dict(type='LabelAwareFlip', classes='${classes}', flip_ratio=0.5,
                     mirror_pairs='${mirror_pairs}'),
    # A mistake, for comparison: the label stays, and is wrong for 12 classes.
    keep_label=dict(type='Flip', flip_ratio=0.5))

rand_augments = {
    # Four or two of timm's 15 changes, each with probability 0.5 and magnitude about 7 of
    # 10; none mirrors.
    'm7-n4': dict(type='ClipRandAugment', policy='rand-m7-n4-mstd0.5-inc1'),
    'm7-n2': dict(type='ClipRandAugment', policy='rand-m7-n2-mstd0.5-inc1')}
random_erasings = dict(quarter=dict(type='RandomErasing', erase_prob=0.25, mode='rand'))
mixings = dict(
    mixup=dict(type='MixupBlending', alpha=0.8, num_classes='${num_classes}'),
    cutmix=dict(type='CutmixBlending', alpha=1, num_classes='${num_classes}'),
    # One or the other, by chance, in each batch.
    both=dict(
        type='RandomBatchAugment', augments=['${mixings.mixup}', '${mixings.cutmix}']))

input_format = 'NCTHW'  # 'NCHW' for models of 2D frames

# The clip is divided into num_frames segments: clips of 30-60 frames never wrap to their
# start, which SampleFrames(8 x 8) does below 64 frames.
samplings = dict(
    segments=dict(type='UniformSegments', clip_len='${num_frames}'),
    # Its segments share their ends, so that some frames are seen twice as often, and the
    # last frame of a short clip is not tested.
    mmaction2=dict(type='UniformSample', clip_len='${num_frames}'),
    # Always the same frames, from the first to the last; in tests as well.
    linspace=dict(type='UniformViews', clip_len='${num_frames}', sampling='linspace'))
# Resizing ignores the aspect ratio (720 x 480 becomes square), in training and testing
# alike: a centre crop would lose the worker at the edges.
train_pipeline = [
    dict(type='ClipInit', short_side='${decode_size}', cache='${clip_cache}',
         cache_dir='${cache_dir}'),
    '${samplings[sampling]}',
    dict(type='ClipDecode'),
    '${rand_augments[rand_augment]}',
    dict(type='CropResize', scale='${input_size}',
         area_range='${random_crop.area_range}',
         aspect_ratio_range='${random_crop.aspect_ratio_range}'),
    '${color_jitter}',
    '${flips[flip]}',
    '${random_erasings[random_erasing]}',
    dict(type='FormatShape', input_format='${input_format}'),
    dict(type='PackActionInputs', meta_keys=('video_id', 'group', 'filename')),
]
test_pipeline = [
    # Testing keeps no clips; training keeps those that it validates on.
    dict(type='ClipInit', short_side='${decode_size}', cache='${clip_cache}',
         cache_dir='${cache_dir}', keep=False),
    dict(type='UniformViews', clip_len='${num_frames}', num_clips='${test_clips}',
         test_mode=True, sampling='${sampling}'),
    dict(type='ClipDecode'),
    dict(type='ResizeClip', scale='${input_size}', crops='${test_crops}'),
    dict(type='FormatShape', input_format='${input_format}'),
    dict(type='PackActionInputs', meta_keys=('video_id', 'group', 'filename')),
]

_dataset = dict(
    type='HRI30Dataset',
    data_root='${data_root}',
    split='${split}',
    annotation='${annotation}',
    group_pattern='${group_pattern}',
    columns='${columns}',
    metainfo=dict(classes='${classes}'))
_loader = dict(
    batch_size='${batch_size}',
    num_workers='${num_workers}',
    persistent_workers='${persistent_workers}',
    collate_fn=dict(type='stack_clips'),
    pin_memory='${pin_memory}')
train_dataloader = dict(
    **_loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset, subset='train', pipeline='${train_pipeline}', repeats='${repeats}'))
val_dataloader = dict(
    **_loader,
    # No clip twice where processes cannot have as many each.
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        **_dataset, subset='val', pipeline='${test_pipeline}', test_mode=True))
# tools/test.sh sets the subset: val, test or both.
test_dataloader = val_dataloader
del _dataset, _loader

val_evaluator = dict(type='HRI30Metric')
test_evaluator = val_evaluator
