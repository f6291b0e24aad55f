"""What is live, since when, and how does one go back?"""
