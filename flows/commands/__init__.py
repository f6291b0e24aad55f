"""What can be asked of Ragtide on the command line? A module a topic; flows/cli.py puts them together."""
