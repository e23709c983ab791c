"""Trained models on a machine without torch and MMAction2. Importing this imports nothing."""
