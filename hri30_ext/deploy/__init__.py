"""Trained models on a machine without torch and MMAction2; importing it imports nothing."""
