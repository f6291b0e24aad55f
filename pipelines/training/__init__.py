"""Training examples, samples and pairs, and fine-tuning of the embedder."""
