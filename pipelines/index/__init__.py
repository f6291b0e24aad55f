"""The LanceDB index: chunking, sources, rows and writer of the table, search, vector cache, maintenance."""
