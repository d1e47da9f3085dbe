"""The only part that knows MLflow: a copy of the records to look at, which never costs a run."""
