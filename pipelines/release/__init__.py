"""Publishing, rollback, verification, lineage, serving and export of releases."""
