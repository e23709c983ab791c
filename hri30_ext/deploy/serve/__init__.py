"""The service: a model behind HTTP and a WebSocket, with a page to try it.

- ``settings``: what may be set, with defaults
- ``app``: the end-points; ``schemas``: what they answer; ``service``: what they share
- ``guards``: who may ask: Host, Origin, token
- ``session``: one WebSocket, one stream
- ``decoding``: starts and ends the processes that run ``decoder``
- ``server``: uvicorn around it; ``load``: measures it from outside
- ``page``: the page, without anything from elsewhere

Imports nothing here: the decoding process starts in a fraction of a second.
"""
