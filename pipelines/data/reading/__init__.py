"""Reading of documents in bounded processes: the pool, what runs in it, and the notes of attempts."""
