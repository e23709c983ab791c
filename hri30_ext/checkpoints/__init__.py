"""Loading and saving checkpoints, which may come from anyone.

Files to read first: :mod:`.loading` is the way in; :mod:`.stand_ins` extends the list of
torch's ``weights_only`` unpickler, :mod:`.essentials` is what this project writes.

A file of any origin runs no code. A hostile one may take time and memory.
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
