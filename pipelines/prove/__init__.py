"""How well does a release or a candidate answer?"""
