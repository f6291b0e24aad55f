"""The two halves of the assistant: the index and the adapter."""
