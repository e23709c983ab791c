"""Loading and saving checkpoints, which may come from anyone.

Files to read first: :mod:`.loading` is the way in; :mod:`.unpickling` bounds torch's
unpickler, :mod:`.archive` checks what torch does not, :mod:`.essentials` is what this
project writes.

What a file can still cost: the memory of its tensors and of their copy on the device, at
most 1,000,000 operations, 200,000 calls and about three times 64 MiB of objects. Only the
data of tensors is not bounded by what is plausible, but by the size of the file.
"""

from .essentials import META_KEY, Essentials, save_safetensors, write_message_hub
from .loading import download, load_from_local, read_essentials

__all__ = ['META_KEY', 'Essentials', 'download', 'load_from_local', 'read_essentials',
           'save_safetensors', 'write_message_hub']
