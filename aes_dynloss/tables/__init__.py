"""Tables that come in and go out: formats, cells, columns, score ranges, and files that are written atomically."""
