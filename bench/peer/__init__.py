"""How does each peer keep the same index current? One module a peer; they run in a virtual environment of their own."""
