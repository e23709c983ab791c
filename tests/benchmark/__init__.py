"""How fast this project is next to plain MMAction2, measured in one run.

``run.py`` is the command; ``rows.py`` has what a row is, the JSON file and the table;
``turns.py`` runs each side of a comparison in its own process, in turns; ``stock.py``
makes MMAction2's own config run on our clips; ``setup.py`` has what a run shares. The rows
are in ``reading.py``, ``training.py``, ``testing.py``, ``resources.py``, ``exported.py``.
"""
