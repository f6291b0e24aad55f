"""Golden questions, the assistant, scoring, retrieval metrics, the gate."""
