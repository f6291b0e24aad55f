"""The services that `ragtide up` starts, and their supervision."""
