"""Policies: evidence in, a decision in codes and numbers out."""
