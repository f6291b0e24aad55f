"""Ragtide: keeps the retrieval index and the fine-tuned model of a question-answering assistant current."""
