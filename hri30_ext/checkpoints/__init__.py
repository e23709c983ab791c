"""Loading and saving checkpoints, which may come from anyone.

Files to read first: :mod:`.loading` is the way in; :mod:`.unpickling` bounds torch's
unpickler, :mod:`.archive` checks what torch does not, :mod:`.essentials` is what this
project writes.

What a file can still cost: memory for its tensors, which it holds, and for their copy on
the device; besides, at most 1,000,000 operations and 50,000 calls of torch's unpickler
(some seconds) and about 250 MiB of objects. Keys are texts, whose hash is random, and small
integers, whose hashes differ.
"""

from .essentials import (
    META_KEY,
    Essentials,
    TrainedOn,
    save_safetensors,
    write_message_hub,
)
from .loading import download, list_checkpoints, load_from_local, read_essentials

__all__ = ['META_KEY', 'Essentials', 'TrainedOn', 'download', 'list_checkpoints',
           'load_from_local', 'read_essentials', 'save_safetensors', 'write_message_hub']
