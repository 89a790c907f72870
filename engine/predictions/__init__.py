"""The prediction log: what was asked and answered, by which version. ``serve`` writes it, ``monitor`` reads it."""
