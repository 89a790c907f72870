"""Content-addressed objects: one small store that the lake, execution and the record share."""
