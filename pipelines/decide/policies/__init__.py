"""Which policies are there? One file each, all behind `pipelines.decide.choice.Policy`."""
