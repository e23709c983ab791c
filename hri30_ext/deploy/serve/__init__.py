"""The service: a model behind HTTP and a WebSocket, with a page to try it.

Imports nothing: decoding processes start in a fraction of a second.
"""
