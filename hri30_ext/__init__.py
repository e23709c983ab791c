"""HRI30 action recognition on MMAction2.

Importing the package alone imports neither torch nor MMAction2, so that
:mod:`hri30_ext.deploy` reads exported models where neither is installed.
:mod:`hri30_ext.modules` registers this project's modules; configs import it.
"""
