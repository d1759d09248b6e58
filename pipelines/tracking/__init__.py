"""Recording runs. Nothing outside this folder knows MLflow."""
