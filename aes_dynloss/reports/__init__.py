"""Reports on predictions: the report model, its tables, figures and pages, and exports. No models."""
