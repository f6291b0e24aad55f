"""The measured signals that the policy decides on."""
