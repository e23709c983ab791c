"""Trained models on a machine without torch and MMAction2.

:mod:`~hri30_ext.deploy.export` writes a folder, with torch.
:mod:`~hri30_ext.deploy.runtime.exported` reads it, and
:mod:`~hri30_ext.deploy.run` predicts with it, which needs numpy, av, msgspec, and ONNX
Runtime or OpenVINO. Importing this package imports none of them.
"""
