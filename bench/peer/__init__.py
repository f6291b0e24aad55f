"""Index updates by three peer libraries, one module per peer; they run in a virtual environment of their own."""
