"""The LanceDB index: chunking, table, search, vector cache, maintenance."""
