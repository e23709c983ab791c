"""Decode every clip once and keep its frames.

Frames of the training and test folders are kept de-interlaced and upright. A call that was
interrupted continues; clips that changed are decoded again. Without DATA_ROOT, print what
the folder holds.

To train from it: --cfg-options clip_cache=memmap, or jpeg. Exits with 1 if clips cannot
be decoded; the others are cached.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('root', nargs='?', metavar='DATA_ROOT')
parser.add_argument('--form', choices=('memmap', 'jpeg'), default='memmap',
                    help='memmap: 13 MB a clip; jpeg: 0.6 MB; default: %(default)s')
parser.add_argument('--short-side', type=cli.at_least(1), default=256, metavar='PIXELS',
                    help='decode_size of the config; default: %(default)s')
parser.add_argument('--cache-dir', metavar='D', help='default: work_dirs/cache')
cli.add_workers_argument(parser)


def main(args) -> None:
    from ..apis.caching import find_clips
    from ..datasets.digests import CACHE_DIR
    from ..errors import first_cases
    from ..video.cache import ClipCache, cache_clips, folder_size
    cache = ClipCache(args.cache_dir or CACHE_DIR, args.short_side, args.form)
    broken = cache_clips(cache, find_clips(args.root), args.workers) if args.root else []
    count, nbytes = folder_size(cache.folder)
    print(f'{cache.folder}: {count} clips, {nbytes / 1e9:.3f} GB')
    if broken:
        cli.fail(f'{len(broken)} clips are not in the cache:\n'
                 f'{first_cases(broken, len(broken))}\n'
                 'Expected whole videos; replace these or move them aside.', 1)
