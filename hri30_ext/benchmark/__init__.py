"""How fast this project is beside plain MMAction2, measured in one run.

- ``rows.py``: what a row is; its statistics, the JSON file and the table.
- ``processes.py``: each measured side in a process of its own, taking turns.
- ``stock.py``: MMAction2's own config, and all that is changed in it.
- ``setup.py``: what a run shares: data, scratch folder, device, this project's config.
- ``pipelines.py``, ``training.py``, ``testing.py``, ``resources.py``, ``exported.py``: the
  rows; ``runner.py`` runs those that are asked for.
"""
