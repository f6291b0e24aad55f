"""Everything that is computed: data, index, models, evidence, policy, releases. No module here imports Prefect."""
