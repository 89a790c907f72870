"""Versioned data: repositories, branches, commits and objects, in process or on a lakeFS server."""
