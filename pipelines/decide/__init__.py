"""Which action does the evidence call for?"""
