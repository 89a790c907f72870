"""Transform `python`: a function of the project, table in, table out."""
