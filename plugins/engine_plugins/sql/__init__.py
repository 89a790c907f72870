"""Transform `sql`: one SELECT over `{source}` in a closed DuckDB."""
