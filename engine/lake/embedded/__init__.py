"""The embedded lake: one SQLite file for refs, commits and sorted ranges; objects in the shared store."""
