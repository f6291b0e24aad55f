"""Plans, project status and policy replay."""
