"""What is there, and what has changed since?"""
