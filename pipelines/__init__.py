"""What is computed: observe, decide, build, prove, publish. No module here imports Prefect."""
