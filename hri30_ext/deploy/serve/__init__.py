"""The service: a model behind HTTP and a WebSocket, with a page to try it.

- ``settings``: limits, with defaults
- ``app``: the end-points; ``schemas``: their answers; ``service``: their shared state
- ``guards``: access control: Host, Origin, token
- ``session``: one WebSocket, one stream; ``window``: shows the stream of a program
- ``decoding``: decodes in processes of their own
- ``server``: hypercorn around it
- ``page``: the page, which loads nothing from elsewhere

Imports nothing: decoding processes start in a fraction of a second.
"""
