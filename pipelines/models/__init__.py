"""Embedder, generator, adapters and reranker: loading, running, training, saving."""
