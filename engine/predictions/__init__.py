"""The prediction log: what was asked, what was answered, by which version. ``serve`` writes it, ``monitor`` reads it."""
