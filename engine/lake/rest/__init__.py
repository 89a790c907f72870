"""The embedded lake behind lakeFS' REST API, so that its clients work against it. ``server.py`` puts it together.

::

    request --> guard (host, key) --> route --> a handler in a thread: Call -> Response
                                        |
                                        `--> an upload, block by block from the socket into the store
"""
